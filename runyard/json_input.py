"""Reads the JSON that clients send, in bounded time.

The garbage collector looks again and again at what is new, so that a million empty lists take twenty times as long to read
as so many numbers, and nobody else is served meanwhile. Nothing can be garbage before it is read, so it waits; and what it
would have to look at in the end is limited.
"""

import gc
import json
from typing import Any

import orjson

SMALL = 16_384
"""So many bytes hold too few lists to be worth the trouble."""

MOST_LISTS = 500_000
"""Lists and objects in one text. Brackets within texts count, too: telling them apart takes as long as reading does."""


class TooManyLists(json.JSONDecodeError):
    """There are more lists and objects than one request may have."""

    def __init__(self, found: int) -> None:
        super().__init__(f"The request has {found:,} lists and objects; {MOST_LISTS:,} are allowed.", "", 0)


def read_json(text: bytes | str) -> Any:
    """The value. json.JSONDecodeError where it is none, or has too many lists."""
    if len(text) < SMALL:
        return orjson.loads(text)
    raw = text.encode() if isinstance(text, str) else text
    if (found := raw.count(b"[") + raw.count(b"{")) > MOST_LISTS:
        raise TooManyLists(found)
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(raw)
    finally:
        if is_collecting:
            gc.enable()
