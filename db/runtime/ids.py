"""Ids of all stored objects: UUIDs of version 7, as 36 characters.

Version 7 begins with the time, which is that of the transaction, by the clock that all timestamps of the database use.
New rows are added at the end of an index instead of at a random page, and ids sort by creation time (to the millisecond;
within one, by the counter below). A clock may be set back: where the order must hold regardless, a new id is created
after a known one.
"""

import os
import re
import threading
import uuid
from functools import lru_cache

from db.runtime.timestamps import epoch_microseconds

_CANONICAL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Needed because uuid.UUID parses digits as int() does and accepts blanks, signs and digits of all scripts.
_PARSEABLE = re.compile(r"(urn:uuid:)?\{?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE | re.ASCII)

_lock = threading.Lock()
_last = 0


def new_id(now: str, *, after: str | None = None) -> str:
    """Create an id for the time `now` that is greater than `after` and every id of this process. Thread-safe."""
    global _last  # noqa: PLW0603 - one counter for the process
    with _lock:
        # 48 bits of milliseconds, then 12 bits that continue the count within one millisecond.
        _last = max(_last + 1, _sort_key_at(now), 0 if after is None else _sort_key_of(after) + 1)
        sort_key = _last
    random_bits = int.from_bytes(os.urandom(8)) >> 2
    digits = f"{(sort_key >> 12) << 80 | 0x7 << 76 | (sort_key & 0xFFF) << 64 | 0b10 << 62 | random_bits:032x}"
    # Formats the id as str(uuid.UUID(int=…)) does, in half the time.
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(16)
def _sort_key_at(now: str) -> int:
    """Return the smallest sort key of the ids for the time `now`. Most ids share the time of their transaction."""
    return epoch_microseconds(now) // 1000 << 12


def _sort_key_of(id: str) -> int:
    """Return the part that an id of `new_id` is sorted by: the milliseconds, and the counter within one."""
    return int(id[:8] + id[9:13] + id[15:18], 16)


def canonical_id(text: str) -> str:
    """Return `text` in the stored form of ids: lower case with hyphens. Raises ValueError when it is not a UUID."""
    if _CANONICAL.fullmatch(text):
        return text
    if not _PARSEABLE.fullmatch(text):
        raise ValueError("invalid UUID")
    return str(uuid.UUID(text))
