"""One server for one SQLite file: a second one would take back what the first one has just delivered."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows; there, that two servers do not share a file is left to who starts them
    fcntl = None


class FileInUse(Exception):
    """Another server has the file open."""


@contextmanager
def only_server_of(path: Path) -> Generator[None]:
    """Hold the lock beside the file `path` for as long as the block runs; the system lets go of it with the process.

    FileInUse where another process holds it.
    """
    with _lock_of(path).open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FileInUse(f"Another server has {path} open.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def server_of(path: Path) -> str | None:
    """The process id of the server that has the file open; None where none has."""
    lock = _lock_of(path)
    if fcntl is None or not lock.exists():
        return None
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read().strip() or "unknown"
    return None


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
