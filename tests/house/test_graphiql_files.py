"""GraphiQL's built files: they match the manifest and were built from the current sources."""

import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import runyard.graphiql

pytestmark = pytest.mark.processes

HERE = Path(runyard.graphiql.__file__).parent
STATIC = HERE / "static"
WEB = HERE / "web"
MANIFEST: dict[str, Any] = json.loads((STATIC / "manifest.json").read_text("utf-8"))


def sources() -> dict[str, str]:
    """Return the hashes of the files that the build reads, by path."""
    paths = {path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()}
    return {
        name: sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        if not name.startswith(("node_modules/", "."))
    }


def entries(value: Any) -> set[str]:
    """Return the file names in a part of the manifest's entries: a name, a list of parts or an object of parts."""
    if isinstance(value, str):
        return {value}
    parts: list[Any] = list(value.values() if isinstance(value, dict) else value)
    return set[str]().union(*(entries(part) for part in parts))


def test_the_files_were_built_from_the_current_sources() -> None:
    """Run `just graphiql-build` to build them again."""
    assert sources() == MANIFEST["sources"]


def test_the_folder_contains_exactly_the_built_files() -> None:
    stored = {row["file"] for row in MANIFEST["files"].values()} | {"manifest.json"}

    assert {path.name for path in STATIC.iterdir()} == stored


@pytest.mark.parametrize("name", MANIFEST["files"])
def test_a_file_has_the_content_in_the_manifest(name: str) -> None:
    row = MANIFEST["files"][name]

    stored = (STATIC / row["file"]).read_bytes()
    content = gzip.decompress(stored) if row["file"].endswith(".gz") else stored

    assert (len(content), sha256(content).hexdigest()) == (row["bytes"], row["sha256"])


def test_the_page_references_only_existing_files() -> None:
    named = entries(MANIFEST["entries"])

    assert MANIFEST["entries"]["script"] in named
    assert named - set(MANIFEST["files"]) == set()
