"""`runyard runs show`: everything about one task run."""

import json
from pathlib import Path

import pytest

from tests.bearer_tokens import bearer_headers
from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.queued_runs import run_under_lease
from tests.client import Client
from tests.command import runyard_at
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = [pytest.mark.processes, SQLITE_ONLY]


async def show(client: Client, id: str) -> str:
    completed = await runyard_at(client.url, "runs", "show", id)
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout


async def test_a_run_that_waits_is_shown_with_its_queue(server: RunningServer, client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", name="quick-ferry", tags=["mail"], parameters={"to": "Ada"})

    assert await show(client, id) == (
        f"Id          {id}\n"
        "Name        quick-ferry\n"
        "Key         t\n"
        "State       SCHEDULED since 2030-01-01 12:00:00Z\n"
        "Queue       waits on the scheduled side, due at 2030-01-01 12:00:00Z\n"
        "Waits       NO_WORKER: no worker receives runs of t\n"
        "Tags        mail\n"
        "Created     2030-01-01 12:00:00Z\n"
        "Scheduled   2030-01-01 12:00:00Z\n"
        "Run count   0\n"
        'Parameters  {"to": "Ada"}\n'
        "\n"
        "TIME                  STATE      SET BY  MESSAGE\n"
        "2030-01-01 12:00:00Z  SCHEDULED  -\n"
    )


async def test_a_leased_run_is_shown_with_its_worker(server: RunningServer, client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    deliveries = await client.execute("ClaimTaskRuns", taskKeys=["t"], workerName="mill-1", leaseSeconds=90.0)
    lease_id = deliveries["deliveries"][0]["leaseId"]
    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    server.clock.advance(4)

    lines = (await show(client, id)).splitlines()

    assert "Lease       held by mill-1 until 2030-01-01 12:01:30Z, delivery 1" in lines
    assert [line for line in lines if line.startswith("Queue")] == []
    assert "Run time    4 s" in lines


async def test_a_run_that_has_ended_is_shown_with_its_states_and_result(server: RunningServer, client: Client) -> None:
    await create_task_run(client, "SCHEDULED")
    id, lease_id = await run_under_lease(client, "RUNNING")
    server.clock.advance(2.5)
    await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id, data={"sent": True}, message="Sent")

    lines = (await show(client, id)).splitlines()

    assert "State       COMPLETED since 2030-01-01 12:00:02Z" in lines
    assert "Message     Sent" in lines
    assert "Ended       2030-01-01 12:00:02Z" in lines
    assert 'Result      {"sent": true}' in lines
    assert lines[-4:] == [
        "TIME                  STATE      SET BY  MESSAGE",
        "2030-01-01 12:00:00Z  SCHEDULED  -",
        "2030-01-01 12:00:00Z  RUNNING    -",
        "2030-01-01 12:00:02Z  COMPLETED  -       Sent",
    ]


async def test_fields_that_are_set_are_shown(client: Client) -> None:
    fields = {"priority": 5, "uniqueKey": "ada", "metadata": {"order": 7}, "expiresAt": "2030-01-02T12:00:00Z"}
    id = await create_task_run(client, "SCHEDULED", **fields)

    lines = (await show(client, id)).splitlines()

    expected = {
        "Priority    5",
        "Unique key  ada",
        'Metadata    {"order": 7}',
        "Expires     2030-01-02 12:00:00Z",
    }
    assert expected <= set(lines)


async def test_a_state_is_shown_with_the_token_that_set_it(tmp_path: Path) -> None:
    async with run_server(tmp_path, access="tokens") as server:
        headers = await bearer_headers(server, "write", name="ada")
        token = headers["Authorization"].removeprefix("Bearer ")
        created = await runyard_at(server.client.url, "runs", "create", "t", "--token", token)
        shown = await runyard_at(server.client.url, "runs", "show", created.stdout.strip(), "--token", token)

    assert shown.stdout.splitlines()[-1] == "2030-01-01 12:00:00Z  SCHEDULED  ada"


async def test_a_run_as_json_is_that_of_the_api(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")

    completed = await runyard_at(client.url, "runs", "show", id, "--json")

    assert json.loads(completed.stdout) == await client.execute("GetTaskRun", id=id)


async def test_an_unknown_run_is_reported(client: Client) -> None:
    unknown, invalid = [
        await runyard_at(client.url, "runs", "show", id) for id in ("01a206b2-303f-7000-b0b3-40b8ceb3f489", "first")
    ]

    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "runyard: No task run has the id 01a206b2-303f-7000-b0b3-40b8ceb3f489.\n"
    assert (invalid.returncode, invalid.stdout) == (1, "")
    assert invalid.stderr == "runyard: id: must be a UUID; got 'first'.\n"
