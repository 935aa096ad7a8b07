"""Connections of asyncpg, which has no type annotations, and translation of its errors.

Ids and timestamps are sent and received as the text that responses contain, not as objects that need conversion.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

from db.errors import DatabaseUnavailable, TransactionConflict
from db.postgresql import read_limit
from db.runtime.memory_budget import MemoryBudgetExceeded, ReadTooLarge

asyncpg: Any = import_module("asyncpg")

MAX_CACHED_TIMESTAMPS = 4096
"""Number of cached conversions of timestamps. A cache hit takes a quarter of the time of a conversion.

Timestamps of a run recur: it was updated when its state was written, ended when it completed, and is soon read again.
"""

CONFLICT_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # Another transaction wrote the same key or deleted the referenced row, which a retry sees.
    asyncpg.UniqueViolationError,
    asyncpg.ForeignKeyViolationError,
)

TRANSIENT_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # Raised for a connection that is used between the database's last message and its closing.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.LockNotAvailableError,
    # Raised when the server has become a standby.
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""Errors that end without a change of the request, some of them when an operator has repaired the database."""

DRIVER_ERRORS = (*CONFLICT_ERRORS, *TRANSIENT_ERRORS)
"""Errors of asyncpg that are raised as exceptions of `db.errors`."""


async def connect(url: str, timeout_seconds: float) -> Any:
    """Open a connection outside of any pool. Raises DatabaseUnavailable when it cannot connect."""
    with translate_errors():
        return await asyncpg.connect(url, timeout=timeout_seconds, command_timeout=timeout_seconds)


async def open_pool(url: str, *, min_size: int, max_size: int, timeout_seconds: float) -> Any:
    """Open a pool of connections that send and receive ids and timestamps as text.

    Raises DatabaseUnavailable when it cannot connect.
    """
    with translate_errors():
        return await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            init=_initialize,
            reset=_skip_reset,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            timeout=timeout_seconds,
            command_timeout=timeout_seconds,
        )


@contextmanager
def translate_errors() -> Generator[None]:
    """Raise errors of asyncpg as exceptions of `db.errors`."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate_error(error) from error


def translate_error(error: Exception) -> TransactionConflict | DatabaseUnavailable:
    """Return the exception of `db.errors` to raise for an error of asyncpg."""
    if isinstance(error, CONFLICT_ERRORS):
        return TransactionConflict("The transaction conflicted with another one.")
    return DatabaseUnavailable(f"The database could not be used: {str(error) or type(error).__name__}.")


def terminate_if_broken(raw: Any, error: BaseException) -> bool:
    """Close the connection at once when `error` leaves it unusable, and return whether it does.

    A connection that has timed out or failed would fail again. The pool opens a new one.
    """
    if not isinstance(error, (asyncio.CancelledError, ReadTooLarge, MemoryBudgetExceeded, *TRANSIENT_ERRORS)):
        return False
    # Raised when the server has closed the connection, which asyncpg then takes from the pool.
    with suppress(asyncpg.InterfaceError):
        raw.terminate()
    return True


async def _initialize(raw: Any) -> None:
    read_limit.install_byte_counter(raw)
    await raw.execute("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'")
    await raw.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="text", format="text")
    await raw.set_type_codec("timestamptz", schema="pg_catalog", encoder=str, decoder=_decode_timestamp, format="text")


@lru_cache(MAX_CACHED_TIMESTAMPS)
def _decode_timestamp(text: str) -> str:
    """Return the stored form of `2026-01-31 09:30:00.25+00`. Most fractions have six digits, which is checked first."""
    if len(text) == 29:
        return f"{text[:10]}T{text[11:26]}Z"
    time = text[:-3]
    return f"{time[:10]}T{time[11:]:0<15}Z" if len(time) > 19 else f"{time[:10]}T{time[11:]}.000000Z"


async def _skip_reset(_raw: Any) -> None:
    """Do nothing: units of work change no session state that would need a reset."""
