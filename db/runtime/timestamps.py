"""Timestamps as text, as stored and as in responses: UTC, microseconds, suffix Z, always 27 characters.

The text sorts by time: SQLite compares it directly, and responses contain it without conversion. Code that calculates
with a timestamp parses it with `parse_timestamp` and formats the result with `format_timestamp`.
"""

from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat

import orjson

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive, in UTC
_MICROSECOND = timedelta(microseconds=1)
_END = datetime.max  # noqa: DTZ901
_TEXT_LENGTH = 27


def format_timestamp(time: datetime) -> str:
    """Format an aware `time` with any UTC offset."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def parse_timestamp(text: str) -> datetime:
    """Parse a stored timestamp into an aware datetime in UTC."""
    return datetime.fromisoformat(text)


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds from `earlier` to `later`; negative when `later` is the earlier one."""
    return (parse_timestamp(later) - parse_timestamp(earlier)).total_seconds()


def seconds_after(start: str, seconds: float) -> str:
    """Return the timestamp `seconds` after `start`, clamped to the years 1 to 9999."""
    try:
        return format_timestamp(parse_timestamp(start) + timedelta(seconds=seconds))
    except OverflowError:
        return format_timestamp((datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC))  # noqa: DTZ901


def epoch_microseconds(timestamp: str) -> int:
    """Return the microseconds since 1970-01-01 UTC, for exact calculations."""
    return (parse_timestamp(timestamp).replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def timestamps_from(start: str, step_microseconds: int, count: int) -> list[str]:
    """Return `count` timestamps from `start`, at intervals of `step_microseconds`, clamped to the end of the year 9999.

    `count` is at least 1.
    """
    first, step = parse_timestamp(start).replace(tzinfo=None), timedelta(microseconds=step_microseconds)
    within = min(count, (_END - first) // step + 1)
    times = list(accumulate(repeat(step, within - 1), initial=first)) + [_END] * (count - within)
    # By far the fastest way to format many timestamps, although orjson omits fractions of zero.
    encoded = orjson.dumps(times, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
    if within == count and not first.microsecond and not step_microseconds % 1_000_000:
        encoded = encoded.replace(b'Z"', b'.000000Z"')
    texts: list[str] = orjson.loads(encoded)
    if len(encoded) == len("[]") + count * (_TEXT_LENGTH + len('"",')) - len(","):
        return texts
    return [text if len(text) == _TEXT_LENGTH else f"{text[:-1]}.000000Z" for text in texts]
