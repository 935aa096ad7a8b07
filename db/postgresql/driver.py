"""Connections of asyncpg, which has no type annotations, and translation of its errors.

Ids and timestamps are sent and received as the text that responses contain, not as objects that need conversion.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

from db.errors import DatabaseUnavailable, RowsLocked, TransactionConflict
from db.postgresql import read_limit
from db.runtime.memory_budget import MemoryBudgetExceeded, ReadTooLarge

asyncpg: Any = import_module("asyncpg")

LOCK_TIMEOUT_MILLISECONDS = 100
"""How long a statement waits for a row that another transaction has locked, before it fails."""

LOST_PEER_SETTINGS = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
"""Parameters with which PostgreSQL notices after 25 seconds that the host at the other end of a connection is lost."""

NOTICE_LOST_PEER = "; ".join(f"SET {name} = {value}" for name, value in LOST_PEER_SETTINGS.items())
"""Statements that set these parameters for a session that is already open."""

FORMAT_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO"}
"""Parameters that determine the text of timestamps. Connection poolers accept them from each client."""

MAX_TIMEOUT_MILLISECONDS = 2**31 - 1

STATEMENT_CACHE_SIZE = 512
"""Number of prepared statements of a direct connection."""

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
    asyncpg.InsufficientPrivilegeError,
    # Raised when this process was suspended in a transaction, and PostgreSQL has ended its session.
    asyncpg.IdleInTransactionSessionTimeoutError,
    # Raised when the server has become a standby.
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""Errors that end without a change of the request, some of them when an operator has repaired the database."""

LOCK_ERRORS: tuple[type[Exception], ...] = (asyncpg.LockNotAvailableError,)
"""Errors of a statement that has waited for a lock for as long as `lock_timeout` allows. The connection is still usable."""

DRIVER_ERRORS = (*CONFLICT_ERRORS, *LOCK_ERRORS, *TRANSIENT_ERRORS)
"""Errors of asyncpg that are raised as exceptions of `db.errors`."""


async def connect(url: str, timeout_seconds: float) -> Any:
    """Open a connection outside of any pool, directly or through a connection pooler.

    It prepares no statements. Raises DatabaseUnavailable when it cannot connect.
    """
    try:
        with translate_errors():
            return await asyncpg.connect(
                url, timeout=timeout_seconds, command_timeout=timeout_seconds, statement_cache_size=0
            )
    except ValueError as error:
        # The text of the error can contain a part of the password.
        raise DatabaseUnavailable(
            "The URL of the database is invalid. Use the form postgresql+asyncpg://user:password@host:port/name, with "
            "special characters such as @ and / in the password percent-encoded."
        ) from error
    except asyncpg.PostgresError as error:
        # Raised for parameters in the URL that the database does not accept.
        raise DatabaseUnavailable(_describe(error)) from error


async def is_pooled(connection: Any) -> bool:
    """Return whether the connection goes through a connection pooler such as PgBouncer.

    A pooler reports a process id to its clients that is not that of the PostgreSQL session.
    """
    return connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()")


async def is_url_pooled(url: str, timeout_seconds: float) -> bool:
    """Return whether connections to `url` go through a connection pooler. Raises DatabaseUnavailable."""
    connection = await connect(url, timeout_seconds)
    try:
        with translate_errors():
            return await is_pooled(connection)
    finally:
        await connection.close()


def session_settings(timeout_seconds: float) -> dict[str, str]:
    """Return the parameters that a direct connection sets when it is opened.

    With them, PostgreSQL ends the session of a server that is suspended in a transaction for `timeout_seconds`, or
    whose host is lost, and releases its locks.
    """
    return FORMAT_SETTINGS | LOST_PEER_SETTINGS | _transaction_settings(timeout_seconds)


def pooled_begin(timeout_seconds: float) -> str:
    """Return the statements that begin a transaction through a connection pooler.

    They set the parameters for the transaction only, because a pooler gives the session to other clients afterwards.
    """
    settings = _transaction_settings(timeout_seconds)
    return "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in settings.items())])


def _transaction_settings(timeout_seconds: float) -> dict[str, str]:
    timeout_milliseconds = min(max(1, round(timeout_seconds * 1000)), MAX_TIMEOUT_MILLISECONDS)
    return {
        "lock_timeout": str(LOCK_TIMEOUT_MILLISECONDS),
        "idle_in_transaction_session_timeout": str(timeout_milliseconds),
    }


async def open_pool(
    url: str, *, min_size: int, max_size: int, timeout_seconds: float, through_pooler: bool = False
) -> Any:
    """Open a pool of connections that send and receive ids and timestamps as text.

    `through_pooler` says whether the connections go through a connection pooler, which rejects other parameters and
    executes each transaction in another session: no statements are prepared. Raises DatabaseUnavailable when it cannot
    connect.
    """
    with translate_errors():
        return await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            init=_initialize,
            reset=_skip_reset,
            statement_cache_size=0 if through_pooler else STATEMENT_CACHE_SIZE,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            timeout=timeout_seconds,
            command_timeout=timeout_seconds,
            server_settings=FORMAT_SETTINGS if through_pooler else session_settings(timeout_seconds),
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
    if isinstance(error, LOCK_ERRORS):
        return RowsLocked("Another transaction has locked a row for too long.")
    return DatabaseUnavailable(_describe(error))


def _describe(error: Exception) -> str:
    """Describe the error in one line."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"The database could not be used: {reason}."


def terminate_if_broken(raw: Any, error: BaseException) -> bool:
    """Close the connection at once when `error` leaves it unusable, and return whether it does.

    A connection that has timed out or failed would fail again. The pool opens a new one.
    """
    if not isinstance(error, (asyncio.CancelledError, ReadTooLarge, MemoryBudgetExceeded, *TRANSIENT_ERRORS)):
        return False
    terminate(raw)
    return True


def terminate(raw: Any) -> None:
    """Close the connection at once."""
    # Raised when the server has closed the connection, which asyncpg then takes from the pool.
    with suppress(asyncpg.InterfaceError):
        raw.terminate()


async def _initialize(raw: Any) -> None:
    read_limit.install_byte_counter(raw)
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
