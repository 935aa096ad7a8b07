"""A result store in a folder that workers and clients share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import uuid4


class FileResultStore:
    """Keeps each result in a file of a folder. Files are written atomically and never deleted on their own.

    `folder` must be the same for workers and for those who read results, such as a network file system.
    """

    name = "files"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def put(self, run_id: str, data: bytes) -> str:
        """Write a result. Another result of the same run, such as that of a second delivery, is kept beside it."""
        reference = f"{re.sub(r'[^A-Za-z0-9-]', '_', run_id)}-{uuid4().hex[:12]}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f".{reference}.unfinished"
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the server learns of the reference next, and must not outlive the file
        unfinished.replace(self.folder / reference)
        return reference

    def get(self, reference: str) -> bytes:
        """Return a result. Raises LookupError if it does not exist."""
        try:
            return self._path(reference).read_bytes()
        except FileNotFoundError:
            raise LookupError(f"{self.folder} has no result {reference!r}.") from None

    def delete(self, reference: str) -> None:
        """Delete a result if it exists."""
        self._path(reference).unlink(missing_ok=True)

    def _path(self, reference: str) -> Path:
        # References come from the server, where others may write them.
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.json", reference):
            raise LookupError(f"{reference!r} is not a reference of this store.")
        return self.folder / reference
