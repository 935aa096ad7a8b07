"""`runyard token`: creates, lists and revokes API tokens, while servers keep running."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from db.database import Database
from db.records import TokenRecord
from db.runtime.timestamps import format_timestamp
from resolvers.api_tokens import CreatedToken, NewToken, create_tokens, has_valid_token, list_tokens, revoke_tokens
from runyard.services import open_database
from runyard.settings import Settings
from runyard.terminal.tables import format_table

Result = TypeVar("Result")


def create(settings: Settings, new_token: NewToken) -> CreatedToken:
    """Create a token."""
    return _with_database(settings, lambda database: database.write(create_tokens, new_token))


def revoke(settings: Settings, name: str) -> TokenRecord:
    """Revoke a token, which servers notice within seconds. Raises NotFound unless `name` matches exactly one token."""
    return _with_database(settings, lambda database: database.write(revoke_tokens, name))


def format_token_table(settings: Settings) -> list[str]:
    """Return a table as lines: a header, then the tokens from the oldest on, without secrets."""

    async def read_table(database: Database) -> list[str]:
        records = await database.read(list_tokens)
        return _format_table(records, format_timestamp(database.clock.now()))

    return _with_database(settings, read_table)


def has_any(settings: Settings) -> bool:
    """Return whether any token is valid."""
    return _with_database(settings, lambda database: database.read(has_valid_token))


def _with_database(settings: Settings, operation: Callable[[Database], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        database = await open_database(settings)
        try:
            return await operation(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _format_table(records: Sequence[TokenRecord], now: str) -> list[str]:
    rows = [("ID", "SCOPES", "CREATED", "LAST USED", "STATUS", "NAME")]
    rows += [
        (
            each.id,
            each.scopes,
            _short_timestamp(each.created),
            _format_last_used(each),
            _format_status(each, now),
            each.name or "",
        )
        for each in records
    ]
    return format_table(rows)


def _format_last_used(record: TokenRecord) -> str:
    return "never" if record.last_used_at is None else _short_timestamp(record.last_used_at)


def _format_status(record: TokenRecord, now: str) -> str:
    if record.revoked_at is not None:
        return f"revoked {_short_timestamp(record.revoked_at)}"
    if record.expires_at is None:
        return "valid, does not expire"
    return f"{'valid until' if record.is_valid(now) else 'expired'} {_short_timestamp(record.expires_at)}"


def _short_timestamp(timestamp: str) -> str:
    return f"{timestamp[:10]} {timestamp[11:19]}Z"
