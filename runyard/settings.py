"""Every setting, read once from `RUNYARD_*` variables."""

import re
from dataclasses import fields
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runyard.durations import read_duration
from runyard.logs import LogFormat
from schema.limits.options import Limits, Rules


def _default_database_url() -> str:
    return f"sqlite+aiosqlite:///{user_data_path('runyard', appauthor=False) / 'runyard.db'}"


def _duration(given: object) -> object:
    return read_duration(given) if isinstance(given, str) else given


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[^\s/:?#@\[\]]+)(:\d+)?")


def _items(given: object) -> object:
    return tuple(each.strip() for each in given.split(",") if each.strip()) if isinstance(given, str) else given


def _origins(given: object) -> object:
    if not isinstance(given, str):
        return given
    origins = tuple(each.strip().lower().rstrip("/") for each in given.split(",") if each.strip())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin: write it as https://runs.example.org, with a port if it has one."
            )
    return origins


class Settings(BaseSettings):
    """What an operator may decide. Every field is a variable `RUNYARD_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="RUNYARD_", frozen=True)

    host: Annotated[str, Field(description="The address to listen on.")] = "127.0.0.1"
    access: Annotated[
        Literal["auto", "tokens", "anonymous"],
        Field(
            description="Who is let in: holders of API tokens, or anybody; `auto`: anybody where the address to listen on "
            "is a loopback address, and holders of tokens otherwise."
        ),
    ] = "auto"
    allowed_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_origins),
        Field(description="Where pages in browsers may come from beside this server, with commas between them."),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_items),
        Field(
            description="The names that clients may know the server by, without ports, with commas between them; `*`: any. "
            "Left out: on a loopback address its own names alone, otherwise any."
        ),
    ] = ()
    max_sockets_per_client: Annotated[
        int, Field(gt=0, description="How many WebSockets one token, or one address without a token, may have open.")
    ] = 100
    max_wrong_tokens: Annotated[
        int,
        Field(gt=0, description="How many wrong tokens of one address are looked at within `wrong_tokens_seconds`."),
    ] = 20
    wrong_tokens_seconds: Annotated[
        float, Field(gt=0, description="How long the wrong tokens of an address are remembered, from the first one on.")
    ] = 60.0
    port: Annotated[int, Field(ge=0, le=65535, description="The port to listen on; 0 takes a free one.")] = 4200
    database_url: Annotated[str, Field(default_factory=_default_database_url, description="Where everything is kept.")]
    database_busy_seconds: Annotated[
        float, Field(ge=0, description="How long a write waits for another process that holds the SQLite file.")
    ] = 5.0
    database_connections: Annotated[
        int,
        Field(ge=2, le=1000, description="How many connections to PostgreSQL may be open, beside one that listens."),
    ] = 10
    database_timeout_seconds: Annotated[
        float, Field(gt=0, description="How long PostgreSQL may take to answer before a request is told UNAVAILABLE.")
    ] = 10.0
    acknowledge_seconds: Annotated[
        float, Field(gt=0, description="How long a delivery may stay unacknowledged before another worker gets it.")
    ] = 30.0
    keep_alive_seconds: Annotated[
        float, Field(gt=0, description="How long a subscription of scheduled runs stays silent before an empty event.")
    ] = 15.0
    sweep_seconds: Annotated[
        float, Field(gt=0, description="How long a delivery whose time is up may go unnoticed.")
    ] = 5.0
    poll_seconds: Annotated[
        float,
        Field(gt=0, description="How long work that other servers queued on PostgreSQL may go unnoticed at most."),
    ] = 5.0
    max_scheduled_per_key: Annotated[
        int,
        Field(
            ge=1,
            description="How many runs of a task key may wait on the scheduled side of its queue, due or not, before "
            "creating another is refused as QUEUE_FULL. Exact on SQLite; on PostgreSQL, what several servers or writers "
            "add within the same second may go beyond it.",
        ),
    ] = 100_000
    max_retry_per_key: Annotated[
        int,
        Field(
            ge=1,
            description="The same for what clients put on the retry side. What failures, releases and lost workers put "
            "there is never refused.",
        ),
    ] = 10_000
    feed_backlog: Annotated[
        int, Field(ge=1, description="How many changes a feed may be behind before it is taken to the latest ones.")
    ] = 10_000
    max_body_bytes: Annotated[int, Field(gt=0, description="The largest request body over HTTP.")] = 4 * 1024 * 1024
    body_seconds: Annotated[float, Field(gt=0, description="How long a client may take to send a request body.")] = 30.0
    max_message_bytes: Annotated[int, Field(gt=0, description="The largest message over WebSocket.")] = 1024 * 1024
    max_operations_per_socket: Annotated[
        int, Field(gt=0, description="How many operations one WebSocket may have under way.")
    ] = 100
    request_seconds: Annotated[
        float, Field(gt=0, description="How long a query or mutation may take before it is given up.")
    ] = 30.0
    max_characters: Annotated[int, Field(gt=0, description="The most characters in a document.")] = 100_000
    max_tokens: Annotated[int, Field(gt=0, description="The most tokens in a document.")] = 2000
    max_depth: Annotated[int, Field(gt=0, description="The most fields one within the other.")] = 15
    max_aliases: Annotated[int, Field(ge=0, description="The most aliases in a document.")] = 50
    max_directives: Annotated[int, Field(ge=0, description="The most directives in a document.")] = 50
    max_fields: Annotated[
        int,
        Field(gt=0, description="The most fields in a document, with those of each fragment wherever it is spread."),
    ] = 1000
    max_root_fields: Annotated[int, Field(gt=0, description="The most fields at the top of an operation.")] = 20
    max_repeats: Annotated[
        int, Field(gt=0, description="How often one field may be selected in one place, which merges them into one.")
    ] = 30
    max_cost: Annotated[int, Field(gt=0, description="The most that an operation may cost.")] = 200_000
    max_filter_conditions: Annotated[int, Field(gt=0, description="The most conditions in a filter.")] = 100
    max_filter_depth: Annotated[
        int, Field(ge=0, description="How deep filters may nest, by and, or, not and filters on what is related.")
    ] = 10
    max_filter_values: Annotated[int, Field(gt=0, description="The most values in one list of a filter.")] = 1000
    max_filter_text: Annotated[int, Field(gt=0, description="The most characters in a `like` of a filter.")] = 1000
    max_page_size: Annotated[int, Field(ge=1, le=1000, description="The most items on a page of a list.")] = 1000
    max_answer_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="How much may be read for one operation, and how long the texts and JSON of its answer may be "
            "together; SQLite counts characters. At least 16 times `max_body_bytes` and `max_message_bytes`: "
            "one run can always be answered.",
        ),
    ] = 64 * 1024 * 1024
    max_answers_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="The same for all answers of over a mebibyte that are under way, until they are sent.",
        ),
    ] = 256 * 1024 * 1024
    introspection: Annotated[
        bool,
        Field(description="Whether clients may ask what the schema is; where not, errors suggest no names either."),
    ] = True
    trusted_documents: Annotated[
        Path | None,
        Field(description="A folder of .graphql files, or a manifest of ids, that clients may ask for by id."),
    ] = None
    only_trusted_documents: Annotated[bool, Field(description="Whether nothing else is served.")] = False
    compress_above_bytes: Annotated[
        int, Field(ge=0, description="Answers larger than this are compressed, for clients that take gzip.")
    ] = 8192
    connection_init_seconds: Annotated[
        float, Field(gt=0, description="How long a WebSocket may take to introduce itself.")
    ] = 10.0
    ping_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="How often the other end of a WebSocket is asked whether it is there, and how long "
            "that may take to answer before the socket is closed.",
        ),
    ] = 10.0
    stop_seconds: Annotated[
        int, Field(gt=0, description="How long requests under way may take when the server is told to stop.")
    ] = 25
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], Field(description="How much is logged.")
    ] = "info"
    retention: Annotated[
        timedelta | None,
        BeforeValidator(_duration),
        Field(description="How long runs are kept after their end: `30d`, `12h`, `P30D`; left out, for ever."),
    ] = None
    metrics: Annotated[bool, Field(description="Whether operations are measured and `/metrics` tells.")] = True
    log_format: Annotated[
        LogFormat, Field(description="How it is logged; `auto`: for people on a terminal, as JSON otherwise.")
    ] = "auto"

    @model_validator(mode="after")
    def _leave_room_for_one_run(self) -> Self:
        # A run was sent in one body, its states in others, and JSON may be stored four times as long as it was sent.
        if self.max_answer_bytes < (least := 16 * max(self.max_body_bytes, self.max_message_bytes)):
            raise ValueError(
                f"max_answer_bytes has to be at least 16 times max_body_bytes and max_message_bytes, which is {least:,}."
            )
        return self

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the address to listen on."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_tokens(self) -> bool:
        """Whether nobody is let in without a token."""
        return self.access == "tokens" or (self.access == "auto" and not self.is_on_loopback)

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that clients may know the server by, in lower case and without ports; None: any."""
        if self.allowed_hosts:
            return None if "*" in self.allowed_hosts else frozenset(each.lower() for each in self.allowed_hosts)
        if not self.is_on_loopback:
            return None
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({"localhost", "127.0.0.1", "[::1]", own.lower()})

    @property
    def rules(self) -> Rules:
        """What operations may do."""
        limits = Limits(**{each.name: getattr(self, f"max_{each.name}") for each in fields(Limits)})
        return Rules(limits, self.introspection, self.request_seconds, self.max_answers_bytes)

    @property
    def database(self) -> Path | str:
        """The SQLite file, or the URL of a PostgreSQL database as its driver takes it. ValueError where it is neither."""
        scheme, _, rest = self.database_url.partition("://")
        if scheme in ("postgresql", "postgresql+asyncpg") and rest:
            return f"postgresql://{rest}"
        if scheme not in ("sqlite", "sqlite+aiosqlite") or rest in ("", "/", "/:memory:") or not rest.startswith("/"):
            raise ValueError(
                "RUNYARD_DATABASE_URL has to name a SQLite file, as sqlite+aiosqlite:///runyard.db or, with an absolute "
                "path, sqlite+aiosqlite:////var/lib/runyard.db, or a PostgreSQL database, as "
                f"postgresql+asyncpg://user@host/name; not {_without_password(self.database_url)!r}."
            )
        return Path(rest[1:])

    @property
    def database_shown(self) -> str:
        """Where everything is kept, for people: without a password."""
        return _without_password(str(self.database))


def _without_password(url: str) -> str:
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)
