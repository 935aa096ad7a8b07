"""Durations in settings and options: `30d`, `12h`, `90 min`, or in ISO 8601 notation, `P30D`."""

import re
from datetime import timedelta

_SIMPLE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|d|w)", re.IGNORECASE)
_RANGE = "a duration must be longer than 0 and at most 365,000 days"
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_duration(text: str) -> timedelta:
    """Parse a positive duration of at most 365,000 days. Raises ValueError when `text` is none.

    In ISO 8601 notation, a month has 30 days and a year 365.
    """
    try:
        duration = _parse(text.strip())
    except OverflowError:
        raise ValueError(f"{text!r} is out of range: {_RANGE}.") from None
    if duration <= timedelta(0) or duration > timedelta(days=365_000):
        raise ValueError(f"{text!r} is out of range: {_RANGE}.")
    return duration


def _parse(text: str) -> timedelta:
    if simple := _SIMPLE.fullmatch(text):
        return timedelta(seconds=float(simple[1]) * _SECONDS[simple[2].lower()])
    import pendulum  # noqa: PLC0415 - slow to import, and rarely needed

    try:
        duration = pendulum.parse(text) if text.upper().startswith("P") else None
    except ValueError:
        duration = None
    if not isinstance(duration, pendulum.Duration):
        raise ValueError(f"{text!r} is not a duration. Use a number with a unit (30d, 12h, 90min) or ISO 8601 (P30D).")
    return duration.as_timedelta()
