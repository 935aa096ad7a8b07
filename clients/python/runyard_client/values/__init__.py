"""Values: parameters and results to plain JSON, and back by annotation.

`encode` uses the type of the value, `decode` an annotation. Both keep what JSON has, and convert dataclasses,
TypedDict, NamedTuple, Enum, datetime, date, timedelta, UUID, Decimal, bytes, sets, tuples and paths, as well as the
types of pydantic and msgspec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from runyard_client.values.decoding import decode as decode
from runyard_client.values.encoding import encode as encode
from runyard_client.values.unreadable import Unreadable as Unreadable

Encode: TypeAlias = Callable[[Any], Any]
"""Returns a value as plain JSON. Raises `NotSerialisable`, TypeError or ValueError."""

Decode: TypeAlias = Callable[[Any, Any], Any]
"""Returns plain JSON as a value of an annotation (`inspect.Parameter.empty` for none). Raises ValueError or TypeError."""
