"""Wrong clocks: processes whose wall clock a test steps, with libfaketime."""

import ctypes.util
from pathlib import Path

LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


def find_faketime() -> Path | None:
    """Return the path of libfaketime for processes with threads, or None if it is not installed."""
    for folder in map(Path, LIBRARY_FOLDERS):
        library = folder / "libfaketimeMT.so.1"
        if library.exists():
            return library
    found = ctypes.util.find_library("faketimeMT")
    return Path(found) if found else None


class SteppedClock:
    """The wall clock of the processes that are started with `variables`. It can be stepped while they run.

    The clocks that measure durations (CLOCK_MONOTONIC, CLOCK_BOOTTIME) are not changed. Without libfaketime, the clock
    cannot be stepped, and `variables` is empty.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = find_faketime()
        self.offset = 0
        """Seconds that the clock is ahead of real time."""
        self.step_to(0)

    @property
    def can_be_stepped(self) -> bool:
        return self._library is not None

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables for the processes."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # The workaround for an old glibc ends waits of threads at once, which uses a whole core.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
        }

    def step_to(self, offset: int) -> None:
        """Set the clock to `offset` seconds ahead of real time, at once and for all processes."""
        # The processes read the file at each reading of the clock, so it must never be incomplete.
        prepared = self._file.with_suffix(".new")
        prepared.write_text(f"{offset:+d}s\n")
        prepared.chmod(0o644)
        prepared.replace(self._file)
        self.offset = offset

    def remove_shared_memory(self, process_id: int) -> None:
        """Remove the shared memory that libfaketime leaves behind when the process is killed."""
        for name in (f"faketime_shm_{process_id}", f"sem.faketime_sem_{process_id}"):
            (Path("/dev/shm") / name).unlink(missing_ok=True)  # noqa: S108 - libfaketime determines the names
