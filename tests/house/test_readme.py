"""README: its commands and its worker work as printed."""

import asyncio
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from tests.builders.api_runs import create_task_runs, read_state_names
from tests.client import TIMEOUT_SECONDS
from tests.serving import ServerProcess

pytestmark = pytest.mark.processes

REPOSITORY = Path(__file__).parent.parent.parent
README = (REPOSITORY / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
(WORKER,) = re.findall(r"^<!-- worker.py -->\n```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
START, CREATE, SEE, CHECK = COMMANDS


async def run_in_shell(command: str) -> bytes:
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    assert process.returncode == 0
    return output


@asynccontextmanager
async def running_worker(server: ServerProcess, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker of the README until the end of the block."""
    file = folder / "worker.py"
    file.write_text(WORKER.replace("127.0.0.1:4200", server.address))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, file, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_lines_with(process: asyncio.subprocess.Process, word: str, count: int) -> None:
    """Read the output of the worker until `count` lines contain the word."""
    assert process.stdout is not None
    while count:
        line = await asyncio.wait_for(process.stdout.readline(), 3 * TIMEOUT_SECONDS)
        assert line, "the worker has exited"
        count -= word in line.decode().split()


async def test_the_worker_connects_again_after_a_restart_and_completes_all_runs(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    client = await server_process.start()
    before = await create_task_runs(client, 100, "SCHEDULED", taskKey="send-mail")
    async with running_worker(server_process, tmp_path) as worker:
        await read_lines_with(worker, "COMPLETED", 5)
        assert await server_process.terminate() == -signal.SIGTERM
        client = await server_process.start()
        after = await create_task_runs(client, 5, "SCHEDULED", taskKey="send-mail")
        unfinished = {"state": {"type": {"notIn": ["COMPLETED"]}}}
        while await client.execute("CountTaskRuns", filter=unfinished):
            await read_lines_with(worker, "COMPLETED", 1)

    histories = [await read_state_names(client, id) for id in [*before, *after]]
    assert histories == [["Scheduled", "Running", "Completed"]] * 105


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_connected", [True, False])
async def test_a_signal_stops_the_worker_with_one_line(
    server_process: ServerProcess, tmp_path: Path, number: signal.Signals, is_connected: bool
) -> None:
    client = await server_process.start()
    await create_task_runs(client, 1, "SCHEDULED", taskKey="send-mail")
    async with running_worker(server_process, tmp_path) as worker:
        await read_lines_with(worker, "COMPLETED", 1)
        if not is_connected:
            await server_process.terminate()
            await read_lines_with(worker, "Disconnected:", 1)

        worker.send_signal(number)
        _, errors = await asyncio.wait_for(worker.communicate(), TIMEOUT_SECONDS)

    assert (worker.returncode, errors) == (0, b"The worker has stopped.\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_the_quick_start_works_as_printed(server_process: ServerProcess, tmp_path: Path) -> None:
    await server_process.start()
    created = orjson.loads(await run_in_shell(CREATE.replace("127.0.0.1:4200", server_process.address)))
    run = created["data"]["createTaskRun"]["taskRun"]
    async with running_worker(server_process, tmp_path) as worker:
        assert worker.stdout is not None
        lines = [await asyncio.wait_for(worker.stdout.readline(), TIMEOUT_SECONDS) for _ in range(2)]
    seen = orjson.loads(await run_in_shell(SEE.replace("127.0.0.1:4200", server_process.address)))

    assert run["stateType"] == "SCHEDULED"
    assert [line.decode().split() for line in lines] == [
        [run["name"], "RUNNING", "ACCEPT"],
        [run["name"], "COMPLETED", "ACCEPT"],
    ]
    (node,) = seen["data"]["taskRuns"]["nodes"]
    assert node["state"] == {"data": {"sent": True}}
    assert [state["name"] for state in node["states"]] == ["Scheduled", "Running", "Completed"]


def test_continuous_integration_runs_the_command_in_the_readme() -> None:
    assert CHECK.strip() in (REPOSITORY / ".ci/run").read_text("utf-8")
    assert START.startswith("python3 -m venv .venv && .venv/bin/pip install -q . &&")
