"""Identifiers of everything that is stored: UUIDs of version 7, as 36 characters.

Version 7 begins with the time, so new rows join their index at its end instead of at a random page, and the order of ids
is the order of creation (to the millisecond; within one, by the counter below). Clocks differ and may be set back: where
the order has to hold all the same, a new id is made after one that is known.
"""

import os
import re
import threading
import time
import uuid

_CANONICAL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# uuid.UUID reads its digits as int() does: with blanks, signs and digits of all scripts.
_READABLE = re.compile(r"(urn:uuid:)?\{?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE | re.ASCII)

_lock = threading.Lock()
_last = 0


def new_id(*, after: str | None = None) -> str:
    """A fresh id, greater than every id that this process made before, and than `after`. Safe to call from any thread."""
    global _last  # noqa: PLW0603 - the counter is the point
    with _lock:
        # 48 bits of milliseconds, then 12 bits that continue the count within one millisecond.
        _last = max(_last + 1, time.time_ns() // 1_000_000 << 12, 0 if after is None else _head_of(after) + 1)
        head = _last
    chance = int.from_bytes(os.urandom(8)) >> 2
    digits = f"{(head >> 12) << 80 | 0x7 << 76 | (head & 0xFFF) << 64 | 0b10 << 62 | chance:032x}"
    # As str(uuid.UUID(int=…)) has it, in half the time.
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _head_of(id: str) -> int:
    """What orders an id that `new_id` has made: the milliseconds, and the count within one."""
    return int(id[:8] + id[9:13] + id[15:18], 16)


def canonical_id(text: str) -> str:
    """`text` as ids are stored: lower case with hyphens. ValueError where it is no UUID."""
    if _CANONICAL.fullmatch(text):
        return text
    if not _READABLE.fullmatch(text):
        raise ValueError("badly formed UUID")
    return str(uuid.UUID(text))
