"""Durations as people write them: `30d`, `12h`, `90 min`, or by ISO 8601, `P30D`."""

import re
from datetime import timedelta

_SIMPLE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def read_duration(text: str) -> timedelta:
    """The duration that `text` says; more than none. ValueError where it says none.

    A month of ISO 8601 is taken for 30 days, a year for 365.
    """
    try:
        duration = _read(text.strip())
    except OverflowError:
        raise ValueError(f"{text!r} is longer than time goes back.") from None
    if duration <= timedelta(0) or duration > timedelta(days=365_000):
        raise ValueError(f"{text!r} has to be more than nothing and less than a thousand years.")
    return duration


def _read(text: str) -> timedelta:
    if simple := _SIMPLE.fullmatch(text):
        return timedelta(seconds=float(simple[1]) * _SECONDS[simple[2].lower()])
    import pendulum  # noqa: PLC0415 - most starts need none of it

    try:
        duration = pendulum.parse(text) if text.upper().startswith("P") else None
    except ValueError:
        duration = None
    if not isinstance(duration, pendulum.Duration):
        raise ValueError(f"{text!r} is no duration. Write it as 30d, 12h or 90min, or by ISO 8601 as P30D.")
    return duration.as_timedelta()
