"""Ids of leases and states that servers with different clocks create: a release uncounts the starts under its lease only."""

import pytest

from db.runtime import ids
from tests.builders.api_runs import set_task_run_state
from tests.builders.queued_runs import create_scheduled
from tests.client import Client
from tests.serving import RunningServer


@pytest.fixture(autouse=True)
def first_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the last id of this process after the test."""
    monkeypatch.setattr(ids, "_last", 0)


def continue_as_another_server() -> None:
    """Forget the last id of this process, as a server that has not created it."""
    ids._last = 0  # pyright: ignore[reportPrivateUsage]


async def claim(client: Client, *, start: bool = False) -> str:
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"], start=start))["deliveries"]
    return delivery["leaseId"]


async def run_count_after_release(client: Client, id: str, lease_id: str) -> int:
    await client.execute("ReleaseTaskRuns", leaseIds=[lease_id])
    return (await client.execute("GetTaskRun", id=id))["runCount"]


async def test_a_start_counts_under_the_lease_of_a_server_whose_clock_is_ahead(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    server.clock.advance(0.01)
    lease_id = await claim(client)

    continue_as_another_server()
    server.clock.set_ahead(-0.002)
    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)

    assert await run_count_after_release(client, id, lease_id) == 0


@pytest.mark.parametrize("start", [False, True])
async def test_an_earlier_start_does_not_count_under_the_lease_of_another_server(
    server: RunningServer, start: bool
) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1})
    failing = await claim(client)
    await set_task_run_state(client, id, "RUNNING", lease_id=failing)
    await set_task_run_state(client, id, "FAILED", lease_id=failing)

    continue_as_another_server()
    lease_id = await claim(client, start=start)
    if not start:
        await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)

    assert await run_count_after_release(client, id, lease_id) == 1
