"""Reads the JSON that clients send, in bounded time.

The garbage collector looks again and again at what is new, so that a million empty lists take twenty times as long to read
as so many numbers, and nobody else is served meanwhile. Nothing can be garbage before it is read, so it waits; and what it
would have to look at in the end is limited.
"""

import gc
import json
import re
from typing import Any

import orjson

SMALL = 16_384
"""So many bytes hold too few lists to be worth the trouble."""

MOST_LISTS = 500_000
"""Lists and objects in one request. Where it has many texts, brackets in these count, too: telling them apart would take
longer than reading does."""

MANY_QUOTES = 200_000

_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class TooManyLists(json.JSONDecodeError):
    """There are more lists and objects than one request may have."""

    def __init__(self, found: int) -> None:
        super().__init__(f"The request has {found:,} lists and objects; {MOST_LISTS:,} are allowed.", "", 0)


def read_json(text: bytes | str) -> Any:
    """The value. json.JSONDecodeError where it is none, or has too many lists."""
    if len(text) < SMALL:
        return orjson.loads(text)
    raw = text.encode() if isinstance(text, str) else text
    if (found := _brackets(raw)) > MOST_LISTS:
        if raw.count(b'"') < MANY_QUOTES:
            found = _brackets(_TEXTS.sub(b"", raw))
        if found > MOST_LISTS:
            raise TooManyLists(found)
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(raw)
    finally:
        if is_collecting:
            gc.enable()


def _brackets(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")
