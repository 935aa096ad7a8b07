"""Settings of the server, read from `RUNYARD_*` environment variables at start."""

import re
from dataclasses import fields
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runyard.durations import parse_duration
from runyard.logs import LogFormat
from schema.limits.options import EngineOptions, RequestLimits

POSTGRESQL_SCHEMES = ("postgresql+asyncpg", "postgresql", "postgres")
"""Schemes of the URL of a PostgreSQL database, which have the same meaning."""


def _default_database_url() -> str:
    return f"sqlite+aiosqlite:///{user_data_path('runyard', appauthor=False) / 'runyard.db'}"


def _parse_duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _parse_optional(value: object) -> object:
    return value or None


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[^\s/:?#@\[\]]+)(:\d+)?")


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _split_list(value: object) -> object:
    return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value


def _parse_origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(each.strip().lower().rstrip("/") for each in value.split(",") if each.strip())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is not an origin. Use the form https://runs.example.org, with the port if it has one."
            )
    return origins


def _parse_header_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = tuple(each.strip() for each in value.split(",") if each.strip())
    for name in names:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name. Separate several names by commas.")
    return names


class Settings(BaseSettings):
    """Settings of the operator. Each field is the environment variable `RUNYARD_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="RUNYARD_", frozen=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    access: Annotated[
        Literal["auto", "tokens", "anonymous"],
        Field(
            description="Whether clients need an API token (`tokens`) or not (`anonymous`). `auto` requires a token "
            "unless the server listens on a loopback address."
        ),
    ] = "auto"
    allowed_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_parse_origins),
        Field(
            description="Origins of web pages that may use the API in addition to the server's, separated by commas. "
            "`*` allows every origin."
        ),
    ] = ()
    allowed_headers: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_parse_header_names),
        Field(
            description="Request headers that pages of these origins may send in addition to the built-in ones, "
            "separated by commas. `*` allows every header."
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_split_list),
        Field(
            description="Host names that requests may be sent to, without ports, separated by commas. `*` allows every "
            "name. Defaults to the loopback names on a loopback address, and to `*` on other addresses."
        ),
    ] = ()
    max_sockets_per_client: Annotated[
        int, Field(gt=0, description="Limit on the open WebSockets of a token, or of an address without a token.")
    ] = 100
    max_wrong_tokens: Annotated[
        int,
        Field(gt=0, description="Limit on the invalid tokens of an address that are looked up in a window."),
    ] = 20
    wrong_tokens_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Length of the window for `max_wrong_tokens`, from the first invalid token on, in seconds.",
        ),
    ] = 60.0
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 selects a free port.")] = 4200
    database_url: Annotated[
        str, Field(default_factory=_default_database_url, description="SQLite file or PostgreSQL database.")
    ]
    database_listen_url: Annotated[
        str | None,
        BeforeValidator(_parse_optional),
        Field(
            description="Direct connection to the PostgreSQL database for notifications, when `database_url` leads "
            "through a connection pooler. By default, notifications use `database_url`."
        ),
    ] = None
    database_busy_seconds: Annotated[
        float,
        Field(ge=0, description="How long a write waits for another process that locks the SQLite file, in seconds."),
    ] = 5.0
    database_connections: Annotated[
        int,
        Field(
            ge=2,
            le=1000,
            description="Limit on the connections to PostgreSQL, without the one that receives notifications.",
        ),
    ] = 10
    database_timeout_seconds: Annotated[
        float,
        Field(
            gt=0, description="Time limit for PostgreSQL, in seconds. Requests that exceed it fail with UNAVAILABLE."
        ),
    ] = 10.0
    acknowledge_seconds: Annotated[
        float,
        Field(gt=0, description="How long a delivery can stay unacknowledged before it is redelivered, in seconds."),
    ] = 30.0
    keep_alive_seconds: Annotated[
        float, Field(gt=0, description="Seconds without events after which `scheduledTaskRuns` sends an empty event.")
    ] = 15.0
    sweep_seconds: Annotated[
        float, Field(gt=0, description="How long an expired lease can stay undetected, in seconds.")
    ] = 5.0
    heartbeat_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="Interval at which a server records that it is running, in seconds. After twice this time without "
            "a server, leases are extended by that time.",
        ),
    ] = 5.0
    poll_seconds: Annotated[
        float,
        Field(gt=0, description="Interval of polling PostgreSQL for changes whose notification was lost, in seconds."),
    ] = 5.0
    max_scheduled_per_key: Annotated[
        int,
        Field(
            ge=1,
            description="Limit on the waiting runs on the scheduled side of a task key's queue, due or not. Beyond it, "
            "creating a run fails with QUEUE_FULL. Exact on SQLite; on PostgreSQL, concurrent writers can exceed it by "
            "what they add within one second.",
        ),
    ] = 100_000
    max_retry_per_key: Annotated[
        int,
        Field(
            ge=1,
            description="Limit on the waiting runs on the retry side, for runs that clients add. Runs that "
            "failures, releases and expired leases add are never refused.",
        ),
    ] = 10_000
    feed_backlog: Annotated[
        int, Field(ge=1, description="How many state changes a feed can be behind before it skips to the latest ones.")
    ] = 10_000
    max_body_bytes: Annotated[int, Field(gt=0, description="Limit on the size of an HTTP request body, in bytes.")] = (
        4 * 1024 * 1024
    )
    body_seconds: Annotated[float, Field(gt=0, description="Time limit for sending a request body, in seconds.")] = 30.0
    max_message_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Limit on the size of a WebSocket message, in bytes. A larger operation fails alone up to "
            "`max_body_bytes`.",
        ),
    ] = 1024 * 1024
    max_operations_per_socket: Annotated[
        int, Field(gt=0, description="Limit on the concurrent operations of a WebSocket.")
    ] = 100
    request_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Time limit for a query or mutation, in seconds. Beyond it, they fail with UNAVAILABLE.",
        ),
    ] = 30.0
    max_characters: Annotated[int, Field(gt=0, description="Limit on the characters of a document.")] = 100_000
    max_tokens: Annotated[int, Field(gt=0, description="Limit on the GraphQL tokens of a document.")] = 2000
    max_depth: Annotated[int, Field(gt=0, description="Limit on the nesting depth of fields.")] = 15
    max_aliases: Annotated[int, Field(ge=0, description="Limit on the aliases in a document.")] = 50
    max_directives: Annotated[int, Field(ge=0, description="Limit on the directives in a document.")] = 50
    max_fields: Annotated[
        int,
        Field(gt=0, description="Limit on the fields in a document. Fields of a fragment count at each spread."),
    ] = 1000
    max_root_fields: Annotated[int, Field(gt=0, description="Limit on the root fields of an operation.")] = 20
    max_repeats: Annotated[
        int, Field(gt=0, description="Limit on the selections of one field that are merged in one place.")
    ] = 30
    max_cost: Annotated[int, Field(gt=0, description="Limit on the estimated cost of an operation.")] = 200_000
    max_filter_conditions: Annotated[int, Field(gt=0, description="Limit on the conditions in a filter.")] = 100
    max_filter_depth: Annotated[
        int, Field(ge=0, description="Limit on the nesting depth of a filter: `and`, `or`, `not` and related objects.")
    ] = 10
    max_filter_values: Annotated[int, Field(gt=0, description="Limit on the values in one list of a filter.")] = 1000
    max_filter_text: Annotated[int, Field(gt=0, description="Limit on the characters of a text to search for.")] = 1000
    max_page_size: Annotated[int, Field(ge=1, le=1000, description="Limit on the items of a page.")] = 1000
    max_response_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Limit on the data that an operation reads, and on the text and JSON in its response, in bytes "
            "(in characters on SQLite). Must be at least 16 times `max_body_bytes` and `max_message_bytes`, which is "
            "enough to return any single run.",
        ),
    ] = 64 * 1024 * 1024
    max_responses_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Limit on the memory of all responses above 1 MiB together until they are sent, in bytes. The same "
            "limit applies separately to all requests above 1 MiB until they are parsed.",
        ),
    ] = 256 * 1024 * 1024
    introspection: Annotated[
        bool,
        Field(description="Whether introspection queries are allowed. When false, errors suggest no names either."),
    ] = True
    trusted_documents: Annotated[
        Path | None,
        Field(description="Folder of .graphql files or manifest of documents that clients can request by id."),
    ] = None
    only_trusted_documents: Annotated[bool, Field(description="Whether all other documents are refused.")] = False
    compress_above_bytes: Annotated[
        int, Field(ge=0, description="Size in bytes above which responses are compressed for clients that accept gzip.")
    ] = 8192
    connection_init_seconds: Annotated[
        float, Field(gt=0, description="Time limit for `connection_init` on a WebSocket, in seconds.")
    ] = 10.0
    ping_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Interval of pings on a WebSocket, and time limit for each pong, in seconds. The WebSocket is "
            "closed when the pong is late.",
        ),
    ] = 10.0
    stop_seconds: Annotated[
        int, Field(gt=0, description="Time limit for requests in flight when the server stops, in seconds.")
    ] = 25
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], Field(description="Lowest level that is logged.")
    ] = "info"
    retention: Annotated[
        timedelta | None,
        BeforeValidator(_parse_duration),
        Field(description="How long ended runs are kept: `30d`, `12h`, `P30D`. By default, forever."),
    ] = None
    metrics: Annotated[bool, Field(description="Whether operations are measured and `/metrics` is served.")] = True
    log_format: Annotated[
        LogFormat, Field(description="Log format. `auto` is `console` on a terminal and `json` elsewhere.")
    ] = "auto"

    @model_validator(mode="after")
    def _check_response_limit(self) -> Self:
        # A run is sent in one body and its states in others, and stored JSON can be four times as long as it was sent.
        if self.max_response_bytes < (minimum := 16 * max(self.max_body_bytes, self.max_message_bytes)):
            raise ValueError(
                "RUNYARD_MAX_RESPONSE_BYTES must be at least 16 times RUNYARD_MAX_BODY_BYTES and "
                f"RUNYARD_MAX_MESSAGE_BYTES, which is {minimum:,}; got {self.max_response_bytes:,}."
            )
        return self

    @property
    def is_on_loopback(self) -> bool:
        """Whether the server listens on a loopback address, which only this machine can reach."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_tokens(self) -> bool:
        """Whether every client needs a token."""
        return self.access == "tokens" or (self.access == "auto" and not self.is_on_loopback)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Host names that requests may be sent to, in lower case and without ports; None allows every name."""
        if self.allowed_hosts:
            return None if "*" in self.allowed_hosts else frozenset(each.lower() for each in self.allowed_hosts)
        if not self.is_on_loopback:
            return None
        own_host = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({"localhost", "127.0.0.1", "[::1]", own_host.lower()})

    @property
    def engine_options(self) -> EngineOptions:
        """Limits and features of the GraphQL engine."""
        limits = RequestLimits(**{each.name: getattr(self, f"max_{each.name}") for each in fields(RequestLimits)})
        return EngineOptions(limits, self.introspection, self.request_seconds, self.max_responses_bytes)

    @property
    def database(self) -> Path | str:
        """The SQLite file, or the URL of a PostgreSQL database for its driver. Raises ValueError when it is neither."""
        if (postgresql_url := _parse_postgresql_url(self.database_url)) is not None:
            return postgresql_url
        scheme, _, rest = self.database_url.partition("://")
        if scheme not in ("sqlite", "sqlite+aiosqlite") or rest in ("", "/", "/:memory:") or not rest.startswith("/"):
            raise ValueError(
                "RUNYARD_DATABASE_URL must name a SQLite file, as sqlite+aiosqlite:///runyard.db or with an absolute "
                "path sqlite+aiosqlite:////var/lib/runyard.db, or a PostgreSQL database, as "
                f"postgresql+asyncpg://user@host/name; got {_redact_password(self.database_url)!r}."
            )
        return Path(rest[1:])

    @property
    def listen_database(self) -> str | None:
        """The URL of the connection for notifications, for its driver; None when it is that of the database.

        Raises ValueError when it does not name a PostgreSQL database.
        """
        if self.database_listen_url is None:
            return None
        if (postgresql_url := _parse_postgresql_url(self.database_listen_url)) is None:
            raise ValueError(
                "RUNYARD_DATABASE_LISTEN_URL must name a PostgreSQL database, as postgresql+asyncpg://user@host/name; "
                f"got {_redact_password(self.database_listen_url)!r}."
            )
        return postgresql_url

    @property
    def redacted_database(self) -> str:
        """The database for display, without its password."""
        return _redact_password(str(self.database))

    @property
    def redacted_listen_database(self) -> str:
        """The URL of the connection for notifications for display, without its password."""
        return _redact_password(str(self.listen_database))


def _parse_postgresql_url(url: str) -> str | None:
    """Return the URL for the driver; None when it does not name a PostgreSQL database."""
    scheme, _, rest = url.partition("://")
    return f"postgresql://{rest}" if scheme in POSTGRESQL_SCHEMES and rest else None


def _redact_password(url: str) -> str:
    url = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&])((?:ssl)?password)=[^&]*", r"\1=***", url)
