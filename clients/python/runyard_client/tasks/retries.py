"""Retry policies of tasks: how many retries, and the delay before each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_DELAYS = 50
"""Largest number of delays that a retry policy of the server has. The last delay applies to all further retries."""

MAX_RETRIES = 2**31 - 1  # `retries` is an Int of GraphQL


def exponential(
    first: float, factor: float = 2, max_delay: float | None = None, count: int = MAX_DELAYS
) -> list[float]:
    """Return the delays `first`, `first * factor`, `first * factor ** 2` … in seconds, each at most `max_delay`.

    The list ends with the first delay that reaches `max_delay`, since the last delay applies to all further retries, and
    has at most `count` items.

    Raises:
        ValueError: `first` or `max_delay` is negative, `factor` is below 1, or `count` is not between 1 and 50.
    """
    _check_number("first", first, at_least=0)
    _check_number("factor", factor, at_least=1)
    limit = math.inf if max_delay is None else _check_number("max_delay", max_delay, at_least=0)
    if not 1 <= count <= MAX_DELAYS:
        raise ValueError(f"`count` must be between 1 and {MAX_DELAYS}; got {count!r}.")
    delays: list[float] = []
    for number in range(count):
        delays.append(_power(first, factor, number, limit))
        if delays[-1] >= limit:
            break
    return delays


def _power(first: float, factor: float, exponent: int, limit: float) -> float:
    try:
        return min(float(first * factor**exponent), limit)
    except OverflowError:
        if math.isfinite(limit):
            return limit
        raise ValueError(
            f"`max_delay` is required: a delay of {first!r} * {factor!r}**{exponent} is too large."
        ) from None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Number of retries, delays in seconds before them, and random variation of the delays.

    A delay is at most `delay * (1 + jitter)`.
    """

    retries: int = 0
    delays: tuple[float, ...] = ()
    jitter: float = 0.0

    def as_input(self) -> dict[str, Any] | None:
        """Return the policy as a `TaskRunPolicyInput`, or None for no retries."""
        if self.retries == 0:
            return None
        policy: dict[str, Any] = {"retries": self.retries}
        if self.delays:
            policy["retryDelaySeconds"] = list(self.delays)
        if self.jitter:
            policy["retryJitterFactor"] = self.jitter
        return policy


NO_RETRIES = RetryPolicy()


def make_retry_policy(retries: Any, delays: float | Iterable[float] | None, jitter: float) -> RetryPolicy:
    """Return the policy for the options of a task.

    Raises:
        TypeError: an option is not a number.
        ValueError: an option is out of its range. The message names the option, the value and the limit.
    """
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"`retries` must be an integer; got {retries!r}.")
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"`retries` must be between 0 and {MAX_RETRIES:,}; got {retries!r}.")
    return RetryPolicy(retries, _read_delays(delays), _check_number("jitter", jitter, at_least=0))


def _read_delays(delays: float | Iterable[float] | None) -> tuple[float, ...]:
    if delays is None:
        return ()
    items: Sequence[float] = list(delays) if isinstance(delays, Iterable) else [delays]
    if len(items) > MAX_DELAYS:
        raise ValueError(f"`retry_delays` must have at most {MAX_DELAYS} items; got {len(items)}.")
    return tuple(_check_number(f"retry_delays[{number}]", item, at_least=0) for number, item in enumerate(items))


def _check_number(argument: str, value: Any, *, at_least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{argument}` must be a number; got {value!r}.")
    if not at_least <= value < math.inf:  # also false for NaN
        raise ValueError(f"`{argument}` must be a finite number of at least {at_least}; got {value!r}.")
    return float(value)
