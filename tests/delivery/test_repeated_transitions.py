"""Proposals that a worker repeats with the same transition id, because the response to the first one was lost."""

from typing import Any

import pytest

from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import Client
from tests.serving import RunningServer

TRANSITION_ID = "00000000-0000-4000-8000-000000000001"


async def propose(client: Client, id: str, lease: str, type: str) -> dict[str, Any]:
    state = {"type": type, "details": {"transitionId": TRANSITION_ID}}
    return await client.execute("SetTaskRunState", id=id, leaseId=lease, state=state)


async def state_names(client: Client, id: str) -> list[str]:
    return [state["name"] for state in (await client.execute("GetTaskRun", id=id))["states"]]


@pytest.mark.parametrize(
    ("type", "history"),
    [
        ("PENDING", ["Scheduled", "Pending", "AwaitingRedelivery"]),
        ("RUNNING", ["Scheduled", "Running", "AwaitingRetry"]),
    ],
)
async def test_a_repeated_beginning_is_aborted_after_its_lease_expired(
    server: RunningServer, type: str, history: list[str]
) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [30]})
    _, lease = await run_under_lease(client)
    first = await propose(client, id, lease, type)
    server.clock.advance(60)
    await server.sweep()

    repeated = await propose(client, id, lease, type)

    assert [(each["status"], each["stateCreated"]) for each in (first, repeated)] == [
        ("ACCEPT", True),
        ("ABORT", False),
    ]
    assert await state_names(client, id) == history


async def test_a_repeated_beginning_is_aborted_while_another_worker_has_the_run(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [0]})
    _, lost = await run_under_lease(client)
    await propose(client, id, lost, "RUNNING")
    server.clock.advance(60)
    await server.sweep()
    _, held = await run_under_lease(client, "RUNNING")

    repeated = await propose(client, id, lost, "RUNNING")

    assert (repeated["status"], repeated["stateCreated"], repeated["taskRun"]["runCount"]) == ("ABORT", False, 2)
    assert await state_names(client, id) == ["Scheduled", "Running", "AwaitingRetry", "Retrying"]
    completed = await client.execute("SetTaskRunState", id=id, leaseId=held, state={"type": "COMPLETED"})
    assert completed["status"] == "ACCEPT"
