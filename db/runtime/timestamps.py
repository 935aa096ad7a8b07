"""Instants as the database keeps them and as answers show them: UTC, microseconds, suffix Z, always 27 characters.

The text sorts as time does, so SQLite compares it as it is and nothing is converted on the way to an answer. Code that
calculates with an instant reads it with `moment` and writes it back with `instant`.
"""

from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat

import orjson

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, as all here
_MICROSECOND = timedelta(microseconds=1)
_END = datetime.max  # noqa: DTZ901
_LENGTH = 27


def instant(moment: datetime) -> str:
    """The text of an aware `moment`, whatever its offset."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def moment(instant: str) -> datetime:
    """The aware UTC datetime that a stored text stands for."""
    return datetime.fromisoformat(instant)


def seconds_between(earlier: str, later: str) -> float:
    """How many seconds lie between two stored instants; negative where `later` is the earlier one."""
    return (moment(later) - moment(earlier)).total_seconds()


def seconds_after(start: str, seconds: float) -> str:
    """The stored instant `seconds` after `start`, held back at the first and the last instant of the calendar."""
    try:
        return instant(moment(start) + timedelta(seconds=seconds))
    except OverflowError:
        return instant((datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC))  # noqa: DTZ901


def microseconds_at(instant: str) -> int:
    """How many microseconds after the beginning of 1970 a stored instant is: for calculations that have to be exact."""
    return (moment(instant).replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def instants_from(start: str, step: int, count: int) -> list[str]:
    """`count` stored instants, one or more, from `start` on, each `step` microseconds after the one before; the last of the
    calendar where that is later."""
    at, length = moment(start).replace(tzinfo=None), timedelta(microseconds=step)
    within = min(count, (_END - at) // length + 1)
    moments = list(accumulate(repeat(length, within - 1), initial=at)) + [_END] * (count - within)
    # By far the fastest way to write many of them; it leaves out fractions that are 0.
    written = orjson.dumps(moments, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
    if within == count and not at.microsecond and not step % 1_000_000:
        written = written.replace(b'Z"', b'.000000Z"')
    texts: list[str] = orjson.loads(written)
    if len(written) == len("[]") + count * (_LENGTH + len('"",')) - len(","):
        return texts
    return [text if len(text) == _LENGTH else f"{text[:-1]}.000000Z" for text in texts]
