"""GraphiQL's built files: the ones that the manifest names, built from the sources that lie beside them."""

import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import runyard.graphiql

HERE = Path(runyard.graphiql.__file__).parent
STATIC = HERE / "static"
WEB = HERE / "web"
MANIFEST: dict[str, Any] = json.loads((STATIC / "manifest.json").read_text("utf-8"))


def sources() -> dict[str, str]:
    """The hashes of the files that the build reads, by their paths."""
    paths = {path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()}
    return {
        name: sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        if not name.startswith(("node_modules/", "."))
    }


def entries(value: Any) -> set[str]:
    """The names of files in a part of the manifest's entries: a name, or a list or an object of parts."""
    if isinstance(value, str):
        return {value}
    parts: list[Any] = list(value.values() if isinstance(value, dict) else value)
    return set[str]().union(*(entries(part) for part in parts))


def test_the_sources_are_those_that_were_built() -> None:
    """`just graphiql-build` builds them anew."""
    assert sources() == MANIFEST["sources"]


def test_the_folder_holds_what_was_built_and_nothing_else() -> None:
    stored = {row["file"] for row in MANIFEST["files"].values()} | {"manifest.json"}

    assert {path.name for path in STATIC.iterdir()} == stored


@pytest.mark.parametrize("name", MANIFEST["files"])
def test_a_file_has_the_content_that_was_built(name: str) -> None:
    row = MANIFEST["files"][name]

    stored = (STATIC / row["file"]).read_bytes()
    content = gzip.decompress(stored) if row["file"].endswith(".gz") else stored

    assert (len(content), sha256(content).hexdigest()) == (row["bytes"], row["sha256"])


def test_the_page_names_no_file_that_there_is_not() -> None:
    named = entries(MANIFEST["entries"])

    assert MANIFEST["entries"]["script"] in named
    assert named - set(MANIFEST["files"]) == set()
