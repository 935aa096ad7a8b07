"""Parsing of JSON from clients, in bounded time.

The garbage collector scans new objects repeatedly: a million empty lists take twenty times as long to parse as a
million numbers, and no other client is served meanwhile. Parsing produces no garbage, so collection is disabled during
it. `MAX_CONTAINERS` limits what the next collection scans.

Integers keep their value. orjson converts those beyond 64 bits to floating-point numbers, so text with a long integer
is parsed by the standard library.
"""

import gc
import json
import re
from typing import Any

import orjson

SMALL_INPUT_BYTES = 16_384
"""Input below this size is parsed directly: it cannot contain enough lists to matter."""

MAX_CONTAINERS = 500_000
"""Limit on the lists and objects in one request.

In a request with many strings, brackets inside strings count too: excluding them would take longer than parsing.
"""

MAX_QUOTES_FOR_EXACT_COUNT = 200_000
"""From this number of quotation marks on, brackets inside strings count as lists and objects."""

_MASK_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
"""Translation of bytes that replaces each digit with 0."""

_LONG_POSITIVE, _LONG_NEGATIVE = b"0" * 20, b"-" + b"0" * 19
"""The shortest integers beyond 64 bits, with masked digits. Strings and fractions can contain them too."""

_STRING_LITERAL = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class TooManyContainers(json.JSONDecodeError):
    """The request exceeds the limit on lists and objects."""

    def __init__(self, found: int) -> None:
        super().__init__(f"The request has {found:,} lists and objects; {MAX_CONTAINERS:,} are allowed.", "", 0)


def parse_json(text: bytes | str) -> Any:
    """Parse JSON. Raises json.JSONDecodeError when it is invalid or has too many lists and objects."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) < SMALL_INPUT_BYTES:
        return _parse(raw)
    if (found := _count_brackets(raw)) > MAX_CONTAINERS:
        if raw.count(b'"') < MAX_QUOTES_FOR_EXACT_COUNT:
            found = _count_brackets(_STRING_LITERAL.sub(b"", raw))
        if found > MAX_CONTAINERS:
            raise TooManyContainers(found)
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return _parse(raw)
    finally:
        if is_collecting:
            gc.enable()


def _parse(raw: bytes) -> Any:
    masked = raw.translate(_MASK_DIGITS)
    if _LONG_POSITIVE not in masked and _LONG_NEGATIVE not in masked:
        return orjson.loads(raw)
    # The standard library also accepts texts that are not JSON, such as NaN.
    orjson.loads(raw)
    try:
        return json.loads(raw)
    except RecursionError:
        raise json.JSONDecodeError("depth limit exceeded", "", 0) from None


def _count_brackets(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")
