"""Options of one call: those of `Task.with_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypedDict, cast

from runyard_client.errors import MAX_DELAY_SECONDS
from runyard_client.tasks.retries import RetryPolicy, make_retry_policy
from runyard_client.tasks.task_options import CacheKey, check_key, check_seconds, check_tags, check_timeout


class GivenOptions(TypedDict, total=False):
    """Keyword arguments of `Task.with_`.

    `delay` is in seconds by the clock of the server, `at` a date-time with an offset; a past `at` is due at once.
    `expires` is a date-time, or a time from the call on: the run is cancelled unless it has started by then.
    `key` is the `dynamicKey`: a second run with the same key is never created, until the first is deleted. `unique` is
    the `uniqueKey`: no second run is created until the first has ended. `parent=False` does not name the current run.
    `timeout=None` and `cache_key=None` remove what the task has. The others replace the task's options; `tags` are added.
    """

    delay: float | timedelta
    at: datetime
    priority: int
    expires: float | timedelta | datetime
    unique: str
    metadata: Mapping[str, Any]
    key: str
    tags: Iterable[str]
    name: str
    version: str
    retries: int
    retry_delays: float | Iterable[float]
    jitter: float
    timeout: float | timedelta | None
    cache_key: CacheKey | None
    parent: bool
    trace_parent: str
    flow_run: str


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of a call in addition to those of its task. None means not given."""

    delay: float | None = None
    at: datetime | None = None
    priority: int | None = None
    expires: timedelta | datetime | None = None
    unique: str | None = None
    metadata: Mapping[str, Any] | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    parent: bool = True
    trace_parent: str | None = None


def merge_call_options(options: CallOptions, given: Mapping[str, Any]) -> CallOptions:
    """Return `options` with those of `given` that concern the call alone.

    Raises:
        TypeError: `delay` and `at` are combined, or a value has the wrong type.
        ValueError: a value is out of its range, or a date-time has no offset.
    """
    if "flow_run" in given:
        raise ValueError("`flow_run` is not supported: the server does not queue the task runs of flow runs.")
    changes = {name: _readers[name](value) for name, value in given.items() if name in _readers}
    if "tags" in changes:
        changes["tags"] = check_tags((*options.tags, *changes["tags"]))
    merged = replace(options, **changes)
    if merged.delay is not None and merged.at is not None:
        raise TypeError("`delay` and `at` cannot be combined.")
    return merged


def override_retries(policy: RetryPolicy, given: Mapping[str, Any]) -> RetryPolicy:
    """Return the policy with the `retries`, `retry_delays` and `jitter` of `given`."""
    return make_retry_policy(
        given.get("retries", policy.retries),
        given.get("retry_delays", policy.delays),
        given.get("jitter", policy.jitter),
    )


def _read_moment(argument: str, moment: Any) -> datetime:
    if not isinstance(moment, datetime):
        raise TypeError(f"`{argument}` must be a datetime; got {moment!r}.")
    if moment.utcoffset() is None:
        raise ValueError(f"`{argument}` must have an offset, such as `tzinfo=UTC`; got {moment.isoformat()}.")
    return moment.astimezone(UTC)


def _read_expires(expires: float | timedelta | datetime) -> timedelta | datetime:
    if isinstance(expires, datetime):
        return _read_moment("expires", expires)
    return timedelta(seconds=check_seconds("expires", expires, 0.001, MAX_DELAY_SECONDS))


def _read_priority(priority: Any) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"`priority` must be an integer; got {priority!r}.")
    if not -10 <= priority <= 10:
        raise ValueError(f"`priority` must be between -10 and 10; got {priority}.")
    return priority


def _read_metadata(metadata: Any) -> Mapping[str, Any]:
    if not isinstance(metadata, Mapping):
        raise TypeError(f"`metadata` must be a mapping; got {metadata!r}.")
    return cast("Mapping[str, Any]", metadata)


def _read_delay(delay: Any) -> float:
    return check_seconds("delay", delay, 0, MAX_DELAY_SECONDS)


_readers: dict[str, Callable[[Any], Any]] = {
    "delay": _read_delay,
    "at": partial(_read_moment, "at"),
    "priority": _read_priority,
    "expires": _read_expires,
    "unique": partial(check_key, "unique"),
    "metadata": _read_metadata,
    "key": partial(check_key, "key"),
    "tags": check_tags,
    "parent": bool,
    "trace_parent": str,
}


def override_timeout(timeout: float | None, given: Mapping[str, Any]) -> float | None:
    """Return the time-out, or that of `given`."""
    return check_timeout(given["timeout"]) if "timeout" in given else timeout
