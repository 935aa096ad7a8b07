"""Moves the memory of a started server into huge pages, on systems that have them.

A request executes hundreds of functions, whose code and constants are spread over tens of megabytes. A processor
caches the addresses of some of the system's small pages; it must look up the others, and after a pause nearly all of
them. Huge pages are five hundred times as large, and the cache (TLB) covers all of them.
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
MIN_RESIDENT_RATIO = 0.75
"""Minimum share of a memory region that must be resident, because a huge page occupies memory for all of it."""

SMAPS_PATH = Path("/proc/self/smaps")
"""File in which Linux describes the memory regions of the process."""
ENABLED_PATH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""File in which Linux shows whether huge pages are enabled: `always`, `madvise` or `never`."""

_MADV_COLLAPSE = 25
"""Flag of `madvise` since Linux 6.1."""

_ANONYMOUS_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ 00:00 0 *(\[heap\])?\n")
_RESIDENT_SIZE = re.compile(r"Rss: +(\d+) kB\n")


def use_huge_pages() -> None:
    """Start to move the current memory in a thread. Takes a tenth of a second and does not block requests."""
    if sys.platform == "linux":
        threading.Thread(target=collapse_memory, name="huge pages", daemon=True).start()


def collapse_memory(smaps: Path = SMAPS_PATH, enabled: Path = ENABLED_PATH) -> int:
    """Move resident memory into huge pages and return the number of bytes moved: 0 when huge pages are disabled."""
    collapsed_bytes = 0
    try:
        if "[never]" in enabled.read_text():
            return 0
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for start, end in _resident_regions(smaps.read_text(errors="replace")):
            for page in range(
                -(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, end - HUGE_PAGE_BYTES + 1, HUGE_PAGE_BYTES
            ):
                # A page that cannot be moved stays usable where it is.
                collapsed_bytes += HUGE_PAGE_BYTES * (madvise(page, HUGE_PAGE_BYTES, _MADV_COLLAPSE) == 0)
    except (OSError, AttributeError) as error:
        log.debug("Huge pages are not available: %s", error)
    return collapsed_bytes


def _resident_regions(smaps: str) -> Iterable[tuple[int, int]]:
    """Yield the start and end of each region that is not mapped from a file and mostly resident."""
    for mapping in _ANONYMOUS_MAPPING.finditer(smaps):
        start, end = (int(each, 16) for each in mapping.groups()[:2])
        resident = _RESIDENT_SIZE.search(smaps, mapping.end())
        if resident is not None and int(resident[1]) * 1024 >= MIN_RESIDENT_RATIO * (end - start):
            yield start, end
