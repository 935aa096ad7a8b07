"""The distribution: what it contains, what it imports, and what it costs to import."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).parent.parent
PACKAGE = CLIENT / "runyard_client"
SERVER = {"runyard", "schema", "resolvers", "db", "queries"}
PROJECT: dict[str, Any] = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL = {"msgspec", "opentelemetry", "pydantic", "pydantic_core", "pytest", "uvloop", "watchfiles"}
"""Packages that are imported where they are needed, if they are installed."""


def imported_packages(path: Path) -> set[str]:
    """Return the first parts of all absolute imports of a file."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").partition(".")[0])
    return packages


def run_python(program: str, *options: str) -> str:
    """Run a program in a new process that can import the client and not the server."""
    command = [sys.executable, *options, "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{program}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=CLIENT)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_nothing_of_the_server(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "runyard_client", "aiohttp", "orjson", *OPTIONAL}
    # Imports for type checkers only.
    allowed |= {"typing_extensions"}

    assert imported_packages(path) & SERVER == set()
    assert imported_packages(path) <= allowed


def test_enqueuing_programs_import_neither_the_worker_nor_optional_packages() -> None:
    loaded = set(run_python("import runyard_client; print(*sys.modules)").split())

    assert {name for name in loaded if name.startswith(("runyard_client.worker", "runyard_client.testing"))} == set()
    assert {name.partition(".")[0] for name in loaded} & {*OPTIONAL, *SERVER} == set()


def test_the_metadata_name_what_exists() -> None:
    assert PROJECT["name"] == "runyard-client"
    assert PROJECT["requires-python"] == ">=3.11"
    assert [each.partition(">=")[0] for each in PROJECT["dependencies"]] == ["aiohttp", "orjson"]
    assert PROJECT["scripts"] == {"runyard-worker": "runyard_client.worker.cli:main"}
    assert PROJECT["entry-points"]["pytest11"] == {"runyard": "runyard_client.testing.plugin"}
    assert (PACKAGE / "worker/cli.py").exists()
    assert (CLIENT / PROJECT["readme"]).exists()
    assert (CLIENT / "LICENSE").read_text() == (CLIENT.parent.parent / "LICENSE").read_text()


def test_the_package_declares_its_types_and_contains_its_documents() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert len(list((PACKAGE / "contract/documents").glob("*.graphql"))) >= 13
