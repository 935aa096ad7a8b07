"""The scalars DateTime and JSON."""

import re
from datetime import UTC, datetime
from typing import Any, NewType

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

DateTime = NewType("DateTime", str)
"""An instant as it is stored and answered: UTC, microseconds, suffix Z."""

JSON = NewType("JSON", object)
"""Any JSON value: in inputs the value itself, in records its text."""

_LONGEST_INSTANT = 64
_AS_STORED = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)
_HAS_OFFSET = re.compile(r"[^Tt]{8,10}[Tt][0-9:.,]{2,40}([Zz]|[+-]\d\d:?\d\d)", re.ASCII)


def read_instant(value: object) -> str:
    """The stored form of an RFC 3339 instant that a client has sent."""
    try:
        if isinstance(value, str):
            if _AS_STORED.fullmatch(value):
                datetime.fromisoformat(value)
                return value
            if len(value) <= _LONGEST_INSTANT and _HAS_OFFSET.fullmatch(value):
                return _parse(value.upper()).astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
    except (ValueError, OverflowError, TypeError) as error:
        raise GraphQLError(f"{value!r:.60} is no instant of the calendar.") from error
    raise GraphQLError(f"A DateTime is an RFC 3339 instant with an offset, as 2026-01-31T09:30:00Z; not {value!r:.60}.")


def _parse(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # pendulum knows the rarer forms of ISO 8601 and costs a hundred times as much.
        import pendulum  # noqa: PLC0415 - most servers never need it

        parsed = pendulum.parse(text)
        if not isinstance(parsed, datetime):
            raise
        return parsed


def _write_json(text: str) -> orjson.Fragment:
    return orjson.Fragment(text)


def _read_json(value: Any) -> Any:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    DateTime: strawberry.scalar(
        name="DateTime",
        description=(
            "An instant by RFC 3339. What you send needs an offset (`2026-01-31T10:30:00+01:00`); "
            "what you get is in UTC with microseconds (`2026-01-31T09:30:00.000000Z`)."
        ),
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
        serialize=str,
        parse_value=read_instant,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, list, string, number, boolean or null. You get back what you sent; "
        "only an integer beyond 64 bits becomes a floating-point number.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc8259",
        serialize=_write_json,
        parse_value=_read_json,
    ),
}
