"""Options of a task, checked when the task is declared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from runyard_client.results.envelope import ResultStore
from runyard_client.tasks.retries import NO_RETRIES, RetryPolicy

Pool: TypeAlias = Literal["loop", "thread", "process"]
ExceptionTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
CacheKey: TypeAlias = str | Callable[[Mapping[str, Any]], str]
ResultOption: TypeAlias = Literal["inline", "discard"] | ResultStore

POOLS = ("loop", "thread", "process")
MAX_KEY_BYTES = 1_000
SERVER_TIMEOUT_MARGIN = 30.0
"""Seconds by which the server's time limit exceeds the task's, since the worker judges `timeout` first."""
MAX_TIMEOUT = 31_536_000 - SERVER_TIMEOUT_MARGIN
MAX_LEASE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options of a task. Times are in seconds; None means no value.

    `retry_on` is None when all exceptions are retried. `grace` is the time between the stages of stopping a process.
    """

    key: str
    version: str | None = None
    group: str = "default"
    pool: Pool = "loop"
    retries: RetryPolicy = NO_RETRIES
    retry_on: tuple[type[BaseException], ...] | None = None
    fail_on: tuple[type[BaseException], ...] = ()
    timeout: float | None = None
    lease_seconds: float | None = None  # None: that of the worker
    tags: tuple[str, ...] = ()
    cache_key: CacheKey | None = None
    cache_for: float | None = None
    name: str | None = None
    result: ResultOption = "inline"
    exclusive: bool = False
    raises: tuple[type[BaseException], ...] = ()
    grace: float = 5.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: an option is out of its range. The message names the option, the value and the limit.
            TypeError: an option has the wrong type.
        """
        check_key("key", self.key)
        if self.pool not in POOLS:
            raise ValueError(f"`pool` must be 'loop', 'thread' or 'process'; got {self.pool!r}.")
        if self.lease_seconds is not None:
            check_seconds("lease_seconds", self.lease_seconds, 1, MAX_LEASE_SECONDS)
        check_seconds("grace", self.grace, 0, 3_600)
        check_timeout(self.timeout)
        if self.cache_for is not None:
            check_seconds("cache_for", self.cache_for, 0.001, 315_360_000)
            if self.cache_key is None:
                raise ValueError("`cache_for` has no effect without `cache_key`.")
        if isinstance(self.result, str) and self.result not in ("inline", "discard"):
            raise ValueError(f"`result` must be 'inline', 'discard' or a ResultStore; got {self.result!r}.")


def check_key(argument: str, key: Any) -> str:
    """Return `key` if it is a text of 1 to 1,000 bytes, as the server requires of keys."""
    if not isinstance(key, str):
        raise TypeError(f"`{argument}` must be a string; got {key!r}.")
    size = len(key.encode())
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ValueError(f"`{argument}` must have 1 to {MAX_KEY_BYTES:,} bytes; got {size:,}.")
    return key


def check_seconds(argument: str, value: Any, low: float, high: float) -> float:
    """Return `value` in seconds if it is a number or a timedelta between `low` and `high`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"`{argument}` must be a number of seconds; got {value!r}.")
    if math.isnan(seconds) or not low <= seconds <= high:
        raise ValueError(f"`{argument}` must be between {low:,} and {high:,} seconds; got {seconds!r}.")
    return float(seconds)


def check_timeout(timeout: float | timedelta | None) -> float | None:
    """Return `timeout` in seconds if the server accepts it with its margin."""
    return None if timeout is None else check_seconds("timeout", timeout, 0.001, MAX_TIMEOUT)


def check_tags(tags: Iterable[Any]) -> tuple[str, ...]:
    """Return the tags without duplicates, in order. A single string is refused: it would become one tag a letter."""
    if isinstance(tags, str):
        raise TypeError(f"`tags` must be a list of strings; got the string {tags!r}.")
    unique: tuple[Any, ...] = tuple(dict.fromkeys(tags))
    for tag in unique:
        if not isinstance(tag, str):
            raise TypeError(f"`tags` must be a list of strings; got {tag!r}.")
    return unique


def check_exceptions(argument: str, types: ExceptionTypes | None) -> tuple[type[BaseException], ...]:
    """Return exception classes as a tuple."""
    found: tuple[Any, ...] = () if types is None else types if isinstance(types, tuple) else (types,)
    for each in found:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"`{argument}` must be exception classes; got {each!r}.")
    return found
