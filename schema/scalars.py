"""The scalars DateTime and JSON."""

import re
from datetime import UTC, datetime
from typing import Any, NewType

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

DateTime = NewType("DateTime", str)
"""A timestamp in the stored and returned form: UTC with microseconds and the suffix Z."""

JSON = NewType("JSON", object)
"""Any JSON value: in inputs the value itself, in records its serialized text."""

_MAX_DATETIME_LENGTH = 64
_STORED_FORMAT = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)
_RFC3339_WITH_OFFSET = re.compile(r"[^Tt ]{8,10}[Tt ][0-9:.,]{2,40}([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_LEAP_SECOND = re.compile(r"[Tt ](\d\d:\d\d:|\d{4})60(?!\d)", re.ASCII)


def parse_datetime(value: object) -> str:
    """Convert an RFC 3339 timestamp with an offset into the stored form. Raises GraphQLError.

    A space can separate date and time, as in the text of timestamps in Python and PostgreSQL.
    """
    try:
        if isinstance(value, str):
            if _STORED_FORMAT.fullmatch(value):
                datetime.fromisoformat(value)
                return value
            if len(value) <= _MAX_DATETIME_LENGTH and _RFC3339_WITH_OFFSET.fullmatch(value):
                return _parse_iso8601(value.upper()).astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
    except (ValueError, OverflowError, TypeError) as error:
        if isinstance(value, str) and _LEAP_SECOND.search(value):
            message = (
                f"Leap seconds are not supported; got {value!r:.60}. Send second 59 or the start of the next minute."
            )
            raise GraphQLError(message) from error
        raise GraphQLError(f"{value!r:.60} is not a valid date and time.") from error
    raise GraphQLError(
        f"A DateTime must be an RFC 3339 timestamp with an offset, such as 2026-01-31T09:30:00Z; got {value!r:.60}."
    )


def _parse_iso8601(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # pendulum parses the rarer forms of ISO 8601 but takes a hundred times as long.
        import pendulum  # noqa: PLC0415 - most servers never import it

        parsed = pendulum.parse(text)
        if not isinstance(parsed, datetime):
            raise
        return parsed


def _serialize_json(text: str) -> orjson.Fragment:
    return orjson.Fragment(text)


def _parse_json(value: Any) -> Any:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    DateTime: strawberry.scalar(
        name="DateTime",
        description=(
            "Timestamp as defined by RFC 3339. Inputs require an offset, such as `2026-01-31T10:30:00+01:00`; a space "
            "can replace the `T`, and leap seconds are not supported. "
            "Results are in UTC with microseconds, such as `2026-01-31T09:30:00.000000Z`."
        ),
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
        serialize=str,
        parse_value=parse_datetime,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, list, string, number, Boolean or null, with at most 252 levels of nested "
        "objects and lists. Integers that exceed 64 bits are invalid: send them as strings.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc8259",
        serialize=_serialize_json,
        parse_value=_parse_json,
    ),
}
