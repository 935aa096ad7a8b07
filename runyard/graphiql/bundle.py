"""The built files of the page, as listed in the manifest of the last build."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

STATIC_DIRECTORY = Path(__file__).parent / "static"

MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class Entries(TypedDict):
    """Names of the files that the page refers to. These files load the others."""

    script: str
    style: str
    favicon: str
    licences: str
    preload: Sequence[str]
    workers: Mapping[str, str]


@dataclass(frozen=True)
class BuiltFile:
    path: Path
    media_type: str
    sha256: str

    @property
    def is_gzipped(self) -> bool:
        return self.path.suffix == ".gz"

    def read(self) -> bytes:
        """Return the bytes as stored, compressed or not."""
        return self.path.read_bytes()

    def read_plain(self) -> bytes:
        stored = self.read()
        return gzip.decompress(stored) if self.is_gzipped else stored


@dataclass(frozen=True)
class Bundle:
    """Result of the last build. Other files in the folder are not served."""

    entries: Entries
    files: Mapping[str, BuiltFile]


@cache
def read_bundle() -> Bundle:
    manifest = json.loads((STATIC_DIRECTORY / "manifest.json").read_bytes())
    files = {
        name: BuiltFile(STATIC_DIRECTORY / row["file"], MEDIA_TYPES[Path(name).suffix], row["sha256"])
        for name, row in manifest["files"].items()
    }
    return Bundle(manifest["entries"], files)
