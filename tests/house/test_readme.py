"""README: its commands, its task and its worker work as printed."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from tests.builders.api_runs import create_task_runs, read_state_names
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import ServerProcess

pytestmark = pytest.mark.processes

REPOSITORY = Path(__file__).parent.parent.parent
CLIENT = REPOSITORY / "clients/python"
README = (REPOSITORY / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
FILES = dict(re.findall(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
START, WORK, CREATE, SEE, CHECK = COMMANDS
WORKER = [sys.executable, "-c", "import sys; from runyard_client.worker.cli import main; sys.exit(main())"]
"""What `runyard-worker` executes."""
CONCURRENCY = 20
"""How many runs the worker executes at a time."""


async def run_in_shell(command: str) -> bytes:
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    assert process.returncode == 0
    return output


def environment_for(server: ServerProcess) -> Mapping[str, str]:
    """Return the environment of the README's programs, for the server of the test and the client of this checkout."""
    path = os.pathsep.join(filter(None, [str(CLIENT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "RUNYARD_URL": server.url, "PYTHONPATH": path}


@asynccontextmanager
async def running_worker(server: ServerProcess, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker of the README until the end of the block."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    _, _, arguments = WORK.partition("/runyard-worker ")
    with (folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *WORKER,
            *arguments.split(),
            cwd=folder,
            env=environment_for(server),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    """Read lines that the task prints."""
    assert process.stdout is not None
    lines: list[str] = []
    while len(lines) < count:
        line = await asyncio.wait_for(process.stdout.readline(), 3 * TIMEOUT_SECONDS)
        assert line, "the worker has exited"
        lines.append(line.decode().strip())
    return lines


async def wait_for_ends(client: Client, ids: list[str]) -> None:
    pending = set(ids)
    while pending:
        response = await client.execute("EndedTaskRuns", ids=sorted(pending), waitSeconds=5)
        pending -= {run["id"] for run in response["ended"]}


async def test_the_worker_connects_again_after_a_restart_and_completes_all_runs(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    parameters = {"to": "ada@example.org"}
    client = await server_process.start()
    before = await create_task_runs(client, 100, "SCHEDULED", taskKey="send-mail", parameters=parameters)
    async with running_worker(server_process, tmp_path) as worker:
        await read_lines(worker, 5)
        assert await server_process.terminate() == -signal.SIGTERM
        client = await server_process.start()
        after = await create_task_runs(client, 5, "SCHEDULED", taskKey="send-mail", parameters=parameters)
        await wait_for_ends(client, [*before, *after])
        worker.terminate()
        printed, _ = await asyncio.wait_for(worker.communicate(), 3 * TIMEOUT_SECONDS)

    assert {(await read_state_names(client, id))[-1] for id in [*before, *after]} == {"Completed"}
    # Five lines were read before. Each run was executed once.
    assert 5 + printed.decode().count("Sending mail to") == 105


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_connected", [True, False])
async def test_a_signal_stops_the_worker(
    server_process: ServerProcess, tmp_path: Path, number: signal.Signals, is_connected: bool
) -> None:
    client = await server_process.start()
    (id,) = await create_task_runs(client, 1, "SCHEDULED", taskKey="send-mail", parameters={"to": "ada@example.org"})
    async with running_worker(server_process, tmp_path) as worker:
        await read_lines(worker, 1)
        await wait_for_ends(client, [id])
        if not is_connected:
            await server_process.terminate()

        worker.send_signal(number)
        await asyncio.wait_for(worker.wait(), 3 * TIMEOUT_SECONDS)

    assert worker.returncode == 0
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_the_quick_start_works_as_printed(server_process: ServerProcess, tmp_path: Path) -> None:
    await server_process.start()
    async with running_worker(server_process, tmp_path) as worker:
        enqueuing = await asyncio.create_subprocess_exec(
            sys.executable,
            "enqueue.py",
            cwd=tmp_path,
            env=environment_for(server_process),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(enqueuing.communicate(), 3 * TIMEOUT_SECONDS)
        created = orjson.loads(await run_in_shell(CREATE.replace("127.0.0.1:4200", server_process.address)))
        lines = await read_lines(worker, 2)
        # Ctrl-C lets the worker report what it has done.
        worker.send_signal(signal.SIGINT)
        await asyncio.wait_for(worker.wait(), 3 * TIMEOUT_SECONDS)
    seen = orjson.loads(await run_in_shell(SEE.replace("127.0.0.1:4200", server_process.address)))

    assert printed == b"sent to ada@example.org\n"
    assert created["data"]["createTaskRun"]["taskRun"]["stateType"] == "SCHEDULED"
    assert lines == ["Sending mail to ada@example.org", "Sending mail to bob@example.org"]
    nodes = seen["data"]["taskRuns"]["nodes"]
    assert sorted(node["state"]["data"]["result"] for node in nodes) == [
        "sent to ada@example.org",
        "sent to bob@example.org",
    ]
    assert [state["name"] for state in nodes[0]["states"]] == ["Scheduled", "Running", "Completed"]


def test_continuous_integration_runs_the_command_in_the_readme() -> None:
    assert CHECK.strip() in (REPOSITORY / ".ci/run").read_text("utf-8")
    assert START.startswith("python3 -m venv .venv && .venv/bin/pip install -q . &&")
    assert WORK.startswith(".venv/bin/pip install -q ./clients/python && .venv/bin/runyard-worker tasks:runyard")
