"""File lock that allows one server per SQLite file. A second server would requeue what the first one has delivered."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows nothing prevents two servers from sharing a file
    fcntl = None


class FileInUse(Exception):
    """Another server uses the SQLite file."""


@contextmanager
def acquire_file_lock(path: Path) -> Generator[None]:
    """Hold a lock on `<path>.lock` while the block runs. The system releases the lock when the process ends.

    Raises FileInUse when another process holds it. Does not lock on Windows.
    """
    with _lock_path(path).open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FileInUse(f"Another server has {path} open.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def find_lock_holder(path: Path) -> str | None:
    """Return the process id of the server that uses the file, or "unknown"; None when no server uses it."""
    lock = _lock_path(path)
    if fcntl is None or not lock.exists():
        return None
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read().strip() or "unknown"
    return None


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
