"""Readers of single values: text, numbers, dates and the like."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID

from runyard_client.values.unreadable import Unreadable, wrong_type

Reader = Callable[[Any], Any]


def _read_text(value: Any) -> str:
    if type(value) is not str:
        raise wrong_type("a string", value)
    return value


def _read_integer(value: Any) -> int:
    if type(value) is not int:
        raise wrong_type("an integer", value)
    return value


def _read_float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise wrong_type("a number", value)
    return float(value)


def _read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong_type("a Boolean", value)
    return value


def _read_null(value: Any) -> None:
    if value is not None:
        raise wrong_type("null", value)


def _from_text(expected: str, parse: Callable[[str], Any]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not str:
            raise wrong_type(expected, value)
        try:
            return parse(value)
        except (ValueError, InvalidOperation, binascii.Error):
            raise Unreadable(f"must be {expected}.") from None

    return read


def _parse_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError("no offset")
    return moment


def _parse_decimal(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError("not finite")
    return number


def _read_decimal(value: Any) -> Any:
    # Clients of other languages send numbers; their shortest text is what they mean.
    return _decimal_from_text(str(value) if type(value) in (int, float) else value)


def _read_timedelta(value: Any) -> timedelta:
    seconds = _read_float(value)
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise Unreadable("must be a number of seconds up to 999,999,999 days.") from None


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_decimal_from_text = _from_text("a decimal number as a string", _parse_decimal)

_PATHS: tuple[Any, ...] = (Path, PurePath, PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)

SCALARS: dict[Any, Reader] = {
    str: _read_text,
    int: _read_integer,
    float: _read_float,
    bool: _read_boolean,
    None: _read_null,
    type(None): _read_null,
    datetime: _from_text("an ISO 8601 date-time with an offset", _parse_datetime),
    date: _from_text("an ISO 8601 date", date.fromisoformat),
    timedelta: _read_timedelta,
    UUID: _from_text("a UUID", UUID),
    Decimal: _read_decimal,
    bytes: _from_text("base64", _decode_base64),
    bytearray: _from_text("base64", lambda text: bytearray(_decode_base64(text))),
    **{each: _from_text("a path", each) for each in _PATHS},
}
