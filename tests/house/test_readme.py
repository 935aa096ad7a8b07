"""README: its commands and its worker work as printed."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

import orjson
import pytest

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


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_the_quick_start_works_as_printed(server_process: ServerProcess, tmp_path: Path) -> None:
    await server_process.start()
    (tmp_path / "worker.py").write_text(WORKER.replace("127.0.0.1:4200", server_process.address))

    created = orjson.loads(await run_in_shell(CREATE.replace("127.0.0.1:4200", server_process.address)))
    run = created["data"]["createTaskRun"]["taskRun"]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, tmp_path / "worker.py", stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    lines = [await asyncio.wait_for(worker.stdout.readline(), TIMEOUT_SECONDS) for _ in range(2)]
    worker.kill()
    await worker.communicate()
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
