"""Keeps what a server has in memory for good in huge pages, where its system has any.

A request goes through hundreds of functions, whose code and constants lie all over tens of megabytes. A processor remembers
where some of the system's small pages are, and has to look for the others, after a pause for nearly all. Huge pages are five
hundred times as large, and it remembers them all.
"""

import ctypes
import logging
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("runyard.huge_pages")

HUGE_PAGE_BYTES = 2 * 1024 * 1024
LEAST_FILLED = 0.75
"""How much of a part of memory has to be in use, since huge pages take all of it."""

SMAPS = Path("/proc/self/smaps")
"""Where Linux tells a process of its memory."""
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Where it tells for whom there are huge pages."""

_MADV_COLLAPSE = 25
"""Of Linux, from its version 6.1 on."""

_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ 00:00 0 *(\[heap\])?\n")
_IN_USE = re.compile(r"Rss: +(\d+) kB\n")


def use_huge_pages() -> None:
    """Begin to move what is in memory now; it takes a tenth of a second, in which requests are answered."""
    if sys.platform == "linux":
        threading.Thread(target=move, name="huge pages", daemon=True).start()


def move(smaps: Path = SMAPS, enabled: Path = ENABLED) -> int:
    """Move what is in memory; how many bytes of it could be. None are where the operator wants no huge pages."""
    moved = 0
    try:
        if "[never]" in enabled.read_text():
            return 0
        collapse = ctypes.CDLL(None).madvise
        collapse.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for start, end in _filled(smaps.read_text(errors="replace")):
            for page in range(
                -(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, end - HUGE_PAGE_BYTES + 1, HUGE_PAGE_BYTES
            ):
                # What can not be moved stays where it is.
                moved += HUGE_PAGE_BYTES * (collapse(page, HUGE_PAGE_BYTES, _MADV_COLLAPSE) == 0)
    except (OSError, AttributeError) as error:
        log.debug("Memory stays in small pages: %s", error)
    return moved


def _filled(smaps: str) -> Iterable[tuple[int, int]]:
    """Where parts of memory begin and end that hold no file and are nearly all in use."""
    for found in _ANONYMOUS.finditer(smaps):
        start, end = (int(each, 16) for each in found.groups()[:2])
        in_use = _IN_USE.search(smaps, found.end())
        if in_use is not None and int(in_use[1]) * 1024 >= LEAST_FILLED * (end - start):
            yield start, end
