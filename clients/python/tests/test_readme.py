"""README: its files, its snippets and its commands work as printed, and its tables match the code."""

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runyard_client import Runyard
from runyard_client.tasks.call_options import GivenOptions
from runyard_client.tasks.decorator import DeclaredOptions
from runyard_client.testing.server import RunyardServer, start_server
from runyard_client.worker import Worker
from runyard_client.worker.settings import WorkerSettings

CLIENT = Path(__file__).parent.parent
REPOSITORY = CLIENT.parent.parent
README = (CLIENT / "README.md").read_text("utf-8")
TIMEOUT_SECONDS = 60.0

FILES = dict(re.findall(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SNIPPETS = [text for language, text in BLOCKS if language == "python" and text not in FILES.values()]
INSTALL, WORK, WORK_WITH_OPTIONS = [text for language, text in BLOCKS if language == "sh"]
WORKER = [sys.executable, "-c", "import sys; from runyard_client.worker.cli import main; sys.exit(main())"]
"""What `runyard-worker` executes."""
OUTSIDE_A_WORKER = ("open_pool",)
"""Snippets that only a worker that starts later uses contain this."""


@pytest.fixture(scope="module")
def readme_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunyardServer]:
    """A server with the runs of the README's examples, which do not have unique keys."""
    with start_server(tmp_path_factory.mktemp("readme-server")) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the README."""
    folder = tmp_path_factory.mktemp("readme")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def environment(readme_server: RunyardServer) -> dict[str, str]:
    """The environment of the README's programs."""
    path = os.pathsep.join([str(CLIENT), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "RUNYARD_URL": readme_server.url, "PYTHONPATH": path}


@pytest.fixture
def run_program(folder: Path, environment: dict[str, str]) -> Callable[..., str]:
    """A function that runs a Python program in the folder and returns its output."""

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture
def worker(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of the README."""
    arguments = WORK_WITH_OPTIONS.split()[1:]
    log = (folder / "worker.log").open("wb")
    process = subprocess.Popen([*WORKER, *arguments], cwd=folder, env=environment, stderr=log)
    yield process
    process.terminate()
    code = process.wait(TIMEOUT_SECONDS)
    log.close()
    assert code == 0, (folder / "worker.log").read_text()


@pytest.mark.usefixtures("worker")
def test_the_programs_print_what_the_worker_returns(run_program: Callable[..., str]) -> None:
    assert run_program("enqueue.py") == "Hello, ada@example.org\n"
    assert run_program("script.py") == "Good morning, bob@example.org\n"


def test_the_tests_pass(run_program: Callable[..., str]) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    names = sorted(name for name in FILES if name.startswith("test_"))

    output = run_program("-m", "pytest", *plugin_options(), *options, *names)

    assert "2 passed" in output


def plugin_options() -> list[str]:
    """Return the options that load the fixtures where the distribution is not installed."""
    from importlib.metadata import entry_points  # noqa: PLC0415

    is_installed = any(each.value == "runyard_client.testing.plugin" for each in entry_points(group="pytest11"))
    return [] if is_installed else ["-p", "runyard_client.testing.plugin"]


async def test_the_snippets_run_one_after_the_other(
    readme_server: RunyardServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_URL", readme_server.url)
    monkeypatch.syspath_prepend(str(folder))
    module = import_tasks()
    names: dict[str, Any] = module.__dict__
    app: Runyard = module.runyard
    declarations = [text for text in SNIPPETS if any(part in text for part in OUTSIDE_A_WORKER)]
    # A worker knows the tasks that are declared when it starts.
    decorated = [text for text in SNIPPETS if "@runyard.task" in text]
    for text in decorated:
        await execute(text.partition("\n\n\nassert")[0], names)

    async with Worker(app, concurrency=5):
        for text in SNIPPETS:
            if text not in declarations and "Worker(" not in text:
                await asyncio.wait_for(execute(without_declarations(text), names), TIMEOUT_SECONDS)
    for text in [*declarations, *(text for text in SNIPPETS if "Worker(" in text)]:
        await asyncio.wait_for(execute(text, names), TIMEOUT_SECONDS)
    await app.close()

    assert len(SNIPPETS) >= 7


def import_tasks() -> ModuleType:
    import importlib  # noqa: PLC0415

    sys.modules.pop("tasks", None)
    return importlib.import_module("tasks")


def without_declarations(text: str) -> str:
    """Return the part of a snippet after the tasks that it declares."""
    return text if "@runyard.task" not in text else "assert" + text.partition("\n\n\nassert")[2]


async def execute(text: str, names: dict[str, Any]) -> None:
    """Execute a snippet, which may use `await`, in these names."""
    if not text.strip() or text == "assert":
        return
    code = compile(text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307 - the text is ours
    if inspect.isawaitable(result):
        await result


def table_rows(heading: str) -> list[list[str]]:
    """Return the code words in the first cell of each row of the tables below a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def test_the_options_of_tasks_are_those_of_the_decorator() -> None:
    assert {name for row in table_rows("Tasks") for name in row} == set(DeclaredOptions.__annotations__)


def test_the_options_of_calls_are_those_of_with() -> None:
    own = set(GivenOptions.__annotations__) - set(DeclaredOptions.__annotations__) | {"key"}

    assert {name for row in table_rows("Enqueue") for name in row} == own - {"flow_run", "trace_parent"}


def test_the_options_of_the_worker_are_its_flags() -> None:
    flags = {name for row in table_rows("Workers") for name in row if name.startswith("--")}
    help_text = subprocess.run(
        [*WORKER, "--help"], env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=True
    ).stdout

    assert flags == set(re.findall(r"--[a-z-]+", help_text)) - {"--help"}
    assert {flag.strip("-").replace("-", "_") for flag in flags - {"--url"}} <= {
        name.strip("_") for name in WorkerSettings.__dataclass_fields__
    }


def test_the_commands_start_a_worker_of_the_file() -> None:
    assert INSTALL.startswith("python3 -m venv .venv && .venv/bin/pip install -q . ./clients/python")
    assert WORK.strip() == ".venv/bin/runyard-worker tasks:runyard"


def test_deployments_start_the_command_with_its_flags() -> None:
    unit = next(text for language, text in BLOCKS if language == "ini")
    image = next(text for language, text in BLOCKS if language == "dockerfile")
    flags = {name for row in table_rows("Workers") for name in row if name.startswith("--")}

    assert "ExecStart=/opt/shop/.venv/bin/runyard-worker tasks:runyard" in unit
    assert 'CMD ["runyard-worker", "tasks:runyard"' in image
    assert set(re.findall(r"--[a-z-]+", unit + image)) - {"--no-cache-dir", "--system"} <= flags
    (stop_seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop_seconds) >= WorkerSettings().drain_seconds + 5


def test_every_block_is_used() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python", "ini", "dockerfile"}
    assert set(FILES) == {"tasks.py", "enqueue.py", "script.py", "test_signup.py", "test_end_to_end.py"}
