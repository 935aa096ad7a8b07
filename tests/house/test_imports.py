"""Imports point down the stairs: the contracts in pyproject.toml are kept, and they notice when they are not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent.parent
PACKAGES = ("runyard", "schema", "resolvers", "db", "queries")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the house, to be spoiled."""
    for package in PACKAGES:
        shutil.copytree(HOUSE / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc", "web", "static"))
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_house_keeps_its_contracts() -> None:
    linted = lint_imports(HOUSE)

    assert linted.returncode == 0, linted.stdout
    assert "Contracts: 3 kept, 0 broken." in linted.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("db/upward.py", "import resolvers.names", "Imports point down the stairs"),
        ("resolvers/upward.py", "import schema.reads.pages", "Imports point down the stairs"),
        ("schema/upward.py", "import runyard.settings", "Imports point down the stairs"),
        ("schema/verbs.py", "import db.connection", "The schema takes words from the database, not verbs"),
        ("queries/eager.py", "import schema.root", "Documents import nothing"),
    ],
)
def test_an_import_that_does_not_point_down_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    (copy / module).write_text(f"{line}\n")

    linted = lint_imports(copy)

    assert linted.returncode == 1, linted.stdout
    assert f"{contract} BROKEN" in linted.stdout
    assert "Contracts: 2 kept, 1 broken." in linted.stdout
