"""asyncpg, which brings no types: how it connects for us, and in our words what it raises.

Ids and instants come and go as the texts that answers show, not as objects that would have to be turned into them.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

from db.errors import Collision, DatabaseUnavailable, TooMuchAtOnce, TooMuchToRead
from db.postgresql import read_limit

asyncpg: Any = import_module("asyncpg")

MOST_INSTANTS = 4096
"""Instants that are remembered in the form of answers. A run's come up again and again: it was updated when its state was
written, ended when it was completed, and is asked for once more soon; and looking one up takes a quarter of making it."""

COLLISIONS: tuple[type[Exception], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # Somebody else wrote the same key, or deleted what this one names: trying again sees it.
    asyncpg.UniqueViolationError,
    asyncpg.ForeignKeyViolationError,
)

PASSING: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # It is used between the database's last word on it and its end.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.LockNotAvailableError,
    # It has become the standby of another one.
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""What passes by itself, or when somebody has put the database right."""

DRIVERS = (*COLLISIONS, *PASSING)
"""What the driver raises that we have words for."""


async def connect(url: str, timeout_seconds: float) -> Any:
    """A connection of its own, outside of any pool."""
    with our_words():
        return await asyncpg.connect(url, timeout=timeout_seconds, command_timeout=timeout_seconds)


async def open_pool(url: str, *, at_least: int, at_most: int, timeout_seconds: float) -> Any:
    """A pool of connections that give and take ids and instants as texts. DatabaseUnavailable where it can not connect."""
    with our_words():
        return await asyncpg.create_pool(
            url,
            min_size=at_least,
            max_size=at_most,
            init=_set_up,
            reset=_leave_as_it_is,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            timeout=timeout_seconds,
            command_timeout=timeout_seconds,
        )


@contextmanager
def our_words() -> Generator[None]:
    """Say in our words what the driver raises."""
    try:
        yield
    except DRIVERS as error:
        raise in_our_words(error) from error


def in_our_words(error: Exception) -> Collision | DatabaseUnavailable:
    """What is to be raised instead of one of the driver's errors."""
    if isinstance(error, COLLISIONS):
        return Collision("Another transaction was in the way.")
    return DatabaseUnavailable(f"The database could not be used: {str(error) or type(error).__name__}.")


def drop_if_broken(raw: Any, error: BaseException) -> bool:
    """Let go of the connection at once if `error` leaves it unusable, and say whether it did.

    What has not answered in time, or is not what it was, would be asked again in vain; the pool makes a new one.
    """
    if not isinstance(error, (asyncio.CancelledError, TooMuchToRead, TooMuchAtOnce, *PASSING)):
        return False
    # One that the other side has closed is out of the pool's hands already.
    with suppress(asyncpg.InterfaceError):
        raw.terminate()
    return True


async def _set_up(raw: Any) -> None:
    read_limit.install(raw)
    await raw.execute("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'")
    await raw.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="text", format="text")
    await raw.set_type_codec("timestamptz", schema="pg_catalog", encoder=str, decoder=_instant_from, format="text")


@lru_cache(MOST_INSTANTS)
def _instant_from(text: str) -> str:
    """The stored form of `2026-01-31 09:30:00.25+00`, whose fraction is mostly whole."""
    if len(text) == 29:
        return f"{text[:10]}T{text[11:26]}Z"
    moment = text[:-3]
    return f"{moment[:10]}T{moment[11:]:0<15}Z" if len(moment) > 19 else f"{moment[:10]}T{moment[11:]}.000000Z"


async def _leave_as_it_is(_raw: Any) -> None:
    """Nothing is left behind on a connection that would have to be put away."""
