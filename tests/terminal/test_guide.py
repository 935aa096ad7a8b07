"""docs/terminal.md: its examples print what the page shows, and its commands and options exist."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from runyard.cli import app
from tests.builders.api_runs import set_task_run_state
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import ServerProcess

pytestmark = pytest.mark.processes

PAGE = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text("utf-8")
EXAMPLES = re.findall(r"^<!-- example -->\n```sh\n(.*?)^```\n\n```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("runyard ")
]


def normalize(output: str) -> str:
    """Replace ids and times, which differ each time, by fixed texts of the same length."""
    output = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "0" * 36, output)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "2026-01-31 09:30:00Z", output)


async def run_in_shell(command: str, url: str) -> str:
    """Run the command in a shell in which `runyard` is that of this project, and return what it prints."""
    process = await asyncio.create_subprocess_shell(
        f'runyard() {{ {shlex.quote(sys.executable)} -m runyard "$@"; }}\n{command}',
        env={**os.environ, "RUNYARD_URL": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 6 * TIMEOUT_SECONDS)
    assert process.returncode == 0
    return output.decode()


async def complete_report(client: Client) -> None:
    """Execute the run of the task key `report`, as its worker does."""
    deliveries: list[dict[str, Any]] = []
    while not deliveries:
        deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["report"], waitSeconds=5.0))["deliveries"]
    (delivery,) = deliveries
    id, lease_id = delivery["taskRun"]["id"], delivery["leaseId"]
    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id, data={"pages": 12})


async def test_the_examples_print_what_the_page_shows(server_process: ServerProcess) -> None:
    client = await server_process.start()
    worker = asyncio.create_task(complete_report(client))
    try:
        printed = [await run_in_shell(command, server_process.url) for command, _ in EXAMPLES]
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    assert len(EXAMPLES) == 7
    assert [normalize(each) for each in printed] == [normalize(output) for _, output in EXAMPLES]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line.partition(" | ")[0])[1:]
    command: Any = get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}

    assert [word for word in words if word.startswith("-") and word not in options] == []
