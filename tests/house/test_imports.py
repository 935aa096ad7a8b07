"""Import contracts: the code keeps the contracts in pyproject.toml, and they detect violations."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source_files import ROOT

pytestmark = pytest.mark.processes

PACKAGES = ("runyard", "schema", "resolvers", "db", "queries")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages, to add violations to."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc", "web", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_packages_keep_the_import_contracts() -> None:
    linted = lint_imports(ROOT)

    assert linted.returncode == 0, linted.stdout
    assert "Contracts: 9 kept, 0 broken." in linted.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("db/upward.py", "import resolvers.names", "Layers import downwards only"),
        ("resolvers/upward.py", "import schema.reads.pages", "Layers import downwards only"),
        ("schema/upward.py", "import runyard.settings", "Layers import downwards only"),
        ("db/sql/circular.py", "import db.connection", "No rooms import each other in a circle"),
        ("schema/reading.py", "import db.statements.flows", "The schema executes no SQL"),
        ("schema/execution/aware.py", "import resolvers.names", "The GraphQL engine knows nothing of task runs"),
        ("resolvers/queue/late.py", "import resolvers.delivery.claim", "Delivery uses transitions"),
        ("db/query/late.py", "import db.statements.flows", "Statements use queries, queries use SQL"),
        ("db/runtime/aware.py", "import db.enums", "The runtime room imports nothing of the project"),
        ("runyard/terminal/eager.py", "import runyard.settings", "The terminal uses the API of a server"),
        ("queries/eager.py", "import schema.root", "Documents import nothing"),
    ],
)
def test_an_import_against_the_layers_breaks_its_contract(copy: Path, module: str, line: str, contract: str) -> None:
    (copy / module).write_text(f"{line}\n")

    linted = lint_imports(copy)

    assert linted.returncode == 1, linted.stdout
    broken = linted.stdout.partition("Broken contracts")[2]
    assert contract in broken
