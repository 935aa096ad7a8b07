"""`runyard runs watch`: prints state changes, across restarts of the server, and misses none."""

import json
import signal

import pytest

from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.client import Client
from tests.command import read_line, running_runyard
from tests.serving import ServerProcess

pytestmark = pytest.mark.processes


async def test_changes_are_printed_as_they_happen(client: Client) -> None:
    async with running_runyard("runs", "watch", RUNYARD_URL=client.url) as command:
        assert await read_line(command.stderr) == "Following state changes. Press Ctrl-C to stop."
        id = await create_task_run(client, "SCHEDULED", taskKey="mail", name="first")
        created = await read_line(command.stdout)
        await set_task_run_state(client, id, "RUNNING", message="Sending\nmail")
        started = await read_line(command.stdout)
        command.send_signal(signal.SIGINT)
        printed, errors = await command.communicate()

    assert created == f"2030-01-01 12:00:00Z  {id}  SCHEDULED                  mail  first"
    assert started.startswith("2030-01-01 12:00:00Z")
    assert started.endswith(f"  {id}  RUNNING                    mail  first  Sending mail")
    assert (command.returncode, printed, errors) == (130, b"", b"")


async def test_options_select_changes_by_run_key_tag_and_new_state(client: Client) -> None:
    options = ("--key", "mail", "--tag", "a", "--state", "running", "--state", "Late", "--limit", "2", "--json")
    async with running_runyard("runs", "watch", *options, RUNYARD_URL=client.url) as command:
        await read_line(command.stderr)
        for key, tag in (("mail", "b"), ("import", "a")):
            await create_task_run(client, "RUNNING", taskKey=key, tags=[tag])
        late = await create_task_run(client, {"type": "SCHEDULED", "name": "Late"}, taskKey="mail", tags=["a"])
        await set_task_run_state(client, late, "RUNNING")
        printed, _ = await command.communicate()

    assert command.returncode == 0
    changes = [json.loads(line) for line in printed.splitlines()]
    assert [(each["taskRun"]["id"], each["state"]["name"]) for each in changes] == [(late, "Late"), (late, "Running")]
    assert [each["previousStateType"] for each in changes] == [None, "SCHEDULED"]


async def test_a_restart_of_the_server_loses_no_change(server_process: ServerProcess) -> None:
    client = await server_process.start()
    async with running_runyard("runs", "watch", "--json", "--limit", "3", RUNYARD_URL=server_process.url) as command:
        await read_line(command.stderr)
        first = await create_task_run(client, taskKey="mail")
        line = await read_line(command.stdout)
        await server_process.terminate()
        lost = await read_line(command.stderr)
        client = await server_process.start()
        second, third = [await create_task_run(client, taskKey="mail") for _ in range(2)]
        printed, errors = await command.communicate()

    ids = [json.loads(each)["taskRun"]["id"] for each in (line, *printed.splitlines())]
    assert ids == [first, second, third]
    assert lost.endswith(" Connecting again ...")
    assert (command.returncode, errors) == (0, b"Connected again.\n")
