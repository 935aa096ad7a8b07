"""Values to plain JSON, by the type of the value."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from runyard_client.errors import NotSerialisable
from runyard_client.values.cycles import find_cycle
from runyard_client.values.external import external_encoder
from runyard_client.values.unreadable import join_path

MAX_DEPTH = 240
"""Levels of lists and objects. The server accepts 252, some of which are around the value."""
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1

Encoder: TypeAlias = Callable[[Any, int], Any]


def encode(value: Any) -> Any:
    """Return `value` as plain JSON.

    Raises:
        NotSerialisable: the value or a part of it has no representation in JSON. `path` locates it.
    """
    try:
        return _encode(value, 0)
    except _TooDeep:
        path = find_cycle(value)
    if path is None:
        raise NotSerialisable(f"must not have more than {MAX_DEPTH} levels of lists and objects.")
    raise NotSerialisable("contains itself.", path=path)


class _TooDeep(Exception):
    """A value has more levels than `MAX_DEPTH`."""


def _encode(value: object, depth: int) -> Any:
    cls = type(value)
    encoder = _encoders.get(cls)
    if encoder is None:
        encoder = _encoders[cls] = _find_encoder(cls)
    return encoder(value, depth)


def _as_it_is(value: Any, _depth: int) -> Any:
    return value


def _encode_text(value: str, _depth: int) -> str:
    if "\0" in value:
        raise NotSerialisable("the server does not accept the NUL character (U+0000) in text. Send bytes.")
    if not value.isascii():
        _check_surrogates(value)
    return value


def _check_surrogates(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotSerialisable("the text contains a surrogate, which is not a character.") from None


def _encode_integer(value: int, _depth: int) -> int:
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise NotSerialisable(f"integers must have at most 64 bits; got one of {value.bit_length()} bits.")
    return value


def _encode_float(value: float, _depth: int) -> float:
    if not math.isfinite(value):
        raise NotSerialisable(f"JSON has no {value}.")
    return value


def _encode_list(value: Iterable[Any], depth: int) -> list[Any]:
    depth = _deeper(depth)
    items: list[Any] = []
    try:
        for item in value:
            items.append(_encode(item, depth))  # noqa: PERF401 - the index of a failed item is the length
    except NotSerialisable as error:
        raise _within(f"[{len(items)}]", error) from None
    return items


def _encode_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    depth = _deeper(depth)
    items: dict[str, Any] = {}
    key = None
    try:
        for key, item in value.items():
            items[_encode_key(key)] = _encode(item, depth)
    except NotSerialisable as error:
        raise _within(str(key), error) from None
    return items


def _encode_key(key: Any) -> str:
    if type(key) is str:
        return _encode_text(key, 0)
    text = key.value if isinstance(key, Enum) else key
    if not isinstance(text, str):
        raise NotSerialisable(f"keys must be strings; got {type(key).__name__}.")
    return _encode_text(str.__str__(text), 0)


def _encode_datetime(value: datetime, _depth: int) -> str:
    if value.utcoffset() is None:
        raise NotSerialisable("date-times must have an offset, such as `tzinfo=UTC`.")
    return value.isoformat()


def _encode_decimal(value: Decimal, _depth: int) -> str:
    if not value.is_finite():
        raise NotSerialisable(f"JSON has no {value}.")
    return str(value)


def _dataclass_encoder(cls: type) -> Encoder:
    # Fields that the constructor does not take are computed again.
    names = [each.name for each in dataclasses.fields(cls) if each.init]

    def encode_dataclass(value: Any, depth: int) -> dict[str, Any]:
        return _encode_mapping(_attributes(value, names), depth)

    return encode_dataclass


def _attributes(value: Any, names: list[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise _TooDeep
    return depth + 1


def _within(step: str, error: NotSerialisable) -> NotSerialisable:
    return NotSerialisable(error.reason, path=join_path(step, error.path))


_encoders: dict[type, Encoder] = {
    str: _encode_text,
    int: _encode_integer,
    float: _encode_float,
    bool: _as_it_is,
    type(None): _as_it_is,
    list: _encode_list,
    tuple: _encode_list,
    set: _encode_list,
    frozenset: _encode_list,
    dict: _encode_mapping,
    datetime: _encode_datetime,
    date: lambda value, _: value.isoformat(),
    timedelta: lambda value, _: value.total_seconds(),
    UUID: lambda value, _: str(value),
    Decimal: _encode_decimal,
    bytes: lambda value, _: base64.b64encode(value).decode(),
    bytearray: lambda value, _: base64.b64encode(value).decode(),
}

_bases: list[tuple[type, Encoder]] = [
    (Enum, lambda value, depth: _encode(value.value, depth)),  # before int and str, which members may be too
    (str, lambda value, depth: _encode_text(str.__str__(value), depth)),
    (int, lambda value, depth: _encode_integer(int(value), depth)),
    (float, lambda value, depth: _encode_float(float(value), depth)),
    (Mapping, _encode_mapping),
    (list, _encode_list),
    (tuple, _encode_list),
    (set, _encode_list),
    (frozenset, _encode_list),
    (PurePath, lambda value, depth: _encode_text(str(value), depth)),
    (datetime, _encode_datetime),  # before date, which it is too
    (date, _encoders[date]),
    (timedelta, _encoders[timedelta]),
    (UUID, _encoders[UUID]),
    (Decimal, _encode_decimal),
    (bytes, _encoders[bytes]),
]


def _find_encoder(cls: type) -> Encoder:
    """Return the encoder of a class that is not in the table: of its library, its fields or its base class."""
    dump = external_encoder(cls)
    if dump is not None:
        return lambda value, depth: _encode(dump(value), depth)
    if dataclasses.is_dataclass(cls):
        return _dataclass_encoder(cls)
    for base, encoder in _bases:
        if issubclass(cls, base):
            return encoder
    return _refuse


def _refuse(value: Any, _depth: int) -> Any:
    raise NotSerialisable(f"values of the type {type(value).__module__}.{type(value).__qualname__} cannot be sent.")
