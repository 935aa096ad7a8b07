"""When a child process is replaced: after a number of runs, or when its memory exceeds a limit."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecyclingPolicy:
    """Limits of one child process; None is no limit. `mib` is its resident memory after a run."""

    runs: int | None = None
    mib: float | None = None

    def is_due(self, runs: int, mib: float) -> bool:
        """Return whether a child that has ended `runs` runs and uses `mib` MiB should be replaced."""
        return (self.runs is not None and runs >= self.runs) or (self.mib is not None and mib > self.mib)


class MemoryReader:
    """Reads the resident memory of this process, in about 2 microseconds. Peak memory on systems without `/proc`."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if sys.platform == "linux" else None
        self._pages_per_mib = 1_048_576 / os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else 0.0

    def read_mib(self) -> float:
        """Return the memory in MiB."""
        if self._fd is None:
            return peak_memory_mib()
        return int(os.pread(self._fd, 100, 0).split()[1]) / self._pages_per_mib

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def peak_memory_mib() -> float:
    """Return the peak of the resident memory of this process; 0 on Windows."""
    if sys.platform == "win32":
        return 0.0
    import resource  # noqa: PLC0415 - not available on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1_048_576 if sys.platform == "darwin" else peak / 1_024
