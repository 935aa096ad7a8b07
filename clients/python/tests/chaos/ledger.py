"""Append-only logs that survive the death of the process which writes them."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """A file to which processes append one JSON line for each event.

    A line is one write to a file that was opened with O_APPEND, so lines of several processes do not mix. `note` returns
    when the line is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()

    def note(self, event: str, **facts: Any) -> None:
        """Append an event with the current time, in seconds since the epoch."""
        # Begins with a line break, because the writer of the line before may have been killed within its write.
        line = b"\n" + json.dumps({"event": event, "at": time.time(), **facts}).encode() + b"\n"
        with self._lock:
            os.write(self._file, line)
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a ledger, oldest first. An incomplete line is ignored: its writer was killed before it went on."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        if line.endswith(b"}"):
            yield json.loads(line)
