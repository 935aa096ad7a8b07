"""`runyard token`: makes, lists and revokes API tokens, beside servers that go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from db.database import Database
from db.records import TokenRecord
from db.runtime.timestamps import instant
from resolvers.api_tokens import NewToken, WantedToken, create_tokens, has_valid_token, list_tokens, revoke_tokens
from runyard.services import open_database
from runyard.settings import Settings

Answer = TypeVar("Answer")


def create(settings: Settings, wanted: WantedToken) -> NewToken:
    """A new token."""
    return _with_database(settings, lambda database: database.write(create_tokens, wanted))


def revoke(settings: Settings, name: str) -> TokenRecord:
    """The token, which is revoked now. Servers notice within seconds. NotFound where no single token is meant."""
    return _with_database(settings, lambda database: database.write(revoke_tokens, name))


def tell_all(settings: Settings) -> list[str]:
    """A line for each token, the oldest first, without secrets."""

    async def tell(database: Database) -> list[str]:
        records = await database.read(list_tokens)
        return _table(records, instant(database.clock.now()))

    return _with_database(settings, tell)


def has_any(settings: Settings) -> bool:
    """Whether a token is valid."""
    return _with_database(settings, lambda database: database.read(has_valid_token))


def _with_database(settings: Settings, work: Callable[[Database], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        database = await open_database(settings, None)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _table(records: Sequence[TokenRecord], now: str) -> list[str]:
    rows = [("ID", "SCOPES", "CREATED", "LAST USED", "STATUS", "NAME")]
    rows += [
        (each.id, each.scopes, _short(each.created), _last_use(each), _status(each, now), each.name or "")
        for each in records
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _last_use(record: TokenRecord) -> str:
    return "never" if record.last_used_at is None else _short(record.last_used_at)


def _status(record: TokenRecord, now: str) -> str:
    if record.revoked_at is not None:
        return f"revoked {_short(record.revoked_at)}"
    if record.expires_at is None:
        return "valid for ever"
    return f"{'valid until' if record.is_valid(now) else 'expired'} {_short(record.expires_at)}"


def _short(moment: str) -> str:
    return f"{moment[:10]} {moment[11:19]}Z"
