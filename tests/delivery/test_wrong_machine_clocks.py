"""Server processes whose machine shows a wrong time, by libfaketime.

On PostgreSQL the database's clock decides, whatever the machine's shows. On SQLite the machine's clock decides on due
times only.
"""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders.queued_runs import create_scheduled, run_ids, run_under_lease
from tests.chaos.clocks import SteppedClock, find_faketime
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, ServerProcess

pytestmark = pytest.mark.skipif(find_faketime() is None, reason="libfaketime is not installed")

AHEAD_SECONDS = 300
HOUR = 3600


@pytest.fixture
def machine_clock(tmp_path: Path) -> SteppedClock:
    """The clock of the machine of `wrong`."""
    return SteppedClock(tmp_path / "clock")


@pytest.fixture
async def wrong(database_url: str, machine_clock: SteppedClock) -> AsyncIterator[ServerProcess]:
    """A server process whose machine shows the time of `machine_clock`. The test starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = machine_clock.variables | {"RUNYARD_SWEEP_SECONDS": "0.2"}
    process = ServerProcess(database_url, port, **variables)
    yield process
    await process.close()
    assert process.process is not None
    machine_clock.remove_shared_memory(process.process.pid)


async def state_name(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRun", id=id))["stateName"]


async def renewed_status(client: Client, lease: str) -> str:
    (result,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    return result["status"]


async def wait_for_state(client: Client, id: str, name: str) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await state_name(client, id) != name:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.05)


def time_of_id(id: str) -> datetime:
    return datetime.fromtimestamp((uuid.UUID(id).int >> 80) / 1000, UTC)


@POSTGRESQL_ONLY
async def test_a_server_on_a_machine_that_is_ahead_loses_no_lease_of_another_server(
    server_process: ServerProcess, wrong: ServerProcess, machine_clock: SteppedClock
) -> None:
    right = await server_process.start()
    await create_scheduled(right)
    held_run, held_lease = await run_under_lease(right, "RUNNING")

    machine_clock.step_to(AHEAD_SECONDS)
    client = await wrong.start()
    await create_scheduled(client)
    lost_run, _ = await run_under_lease(client, "RUNNING", lease_seconds=1)
    await server_process.kill()
    # Its sweep has also seen the other lease.
    await wait_for_state(client, lost_run, "WorkerLost")

    assert await state_name(client, held_run) == "Running"
    assert await renewed_status(client, held_lease) == "HELD"


@POSTGRESQL_ONLY
async def test_a_server_on_a_machine_that_is_ahead_delivers_nothing_early(
    wrong: ServerProcess, machine_clock: SteppedClock
) -> None:
    machine_clock.step_to(AHEAD_SECONDS)
    client = await wrong.start()
    later = (datetime.now(UTC) + timedelta(seconds=AHEAD_SECONDS / 2)).isoformat()
    await create_scheduled(client, at=later)
    due = await create_scheduled(client)

    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2))["deliveries"]

    assert run_ids(deliveries) == [due]


@POSTGRESQL_ONLY
@pytest.mark.parametrize("offset", [AHEAD_SECONDS, -AHEAD_SECONDS])
async def test_states_and_ids_have_the_time_of_the_database(
    wrong: ServerProcess, machine_clock: SteppedClock, offset: int
) -> None:
    machine_clock.step_to(offset)
    client = await wrong.start()

    began_at = datetime.now(UTC)
    run = await client.execute("GetTaskRun", id=await create_scheduled(client))

    # The test and the database are on one machine.
    ended_at = datetime.now(UTC)
    (state,) = run["states"]
    tolerance = timedelta(seconds=1)
    times = [datetime.fromisoformat(state["timestamp"]), time_of_id(state["id"]), time_of_id(run["id"])]
    assert all(began_at - tolerance <= each <= ended_at + tolerance for each in times), (began_at, ended_at, times)


@POSTGRESQL_ONLY
async def test_the_log_names_the_difference_between_the_clocks(
    wrong: ServerProcess, machine_clock: SteppedClock
) -> None:
    machine_clock.step_to(AHEAD_SECONDS)

    await wrong.start()

    assert b"This machine's clock is 300.0 seconds ahead of the database's." in wrong.start_log


@SQLITE_ONLY
async def test_leases_and_history_survive_steps_of_an_hour_ahead_and_back(
    wrong: ServerProcess, machine_clock: SteppedClock
) -> None:
    client = await wrong.start()
    await create_scheduled(client)
    id, lease = await run_under_lease(client, "RUNNING", lease_seconds=600)
    await create_scheduled(client)
    lost_run, _ = await run_under_lease(client, "RUNNING", lease_seconds=2)

    machine_clock.step_to(HOUR)
    await wait_for_state(client, lost_run, "WorkerLost")
    during = await state_name(client, id), await renewed_status(client, lease)
    machine_clock.step_to(-HOUR)
    result = await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "COMPLETED"})

    run = await client.execute("GetTaskRun", id=id)
    assert during == ("Running", "HELD")
    assert (result["status"], [each["name"] for each in run["states"]]) == (
        "ACCEPT",
        ["Scheduled", "Running", "Completed"],
    )
    times = [each["timestamp"] for each in run["states"]]
    assert times == sorted(times)
    assert run["totalRunTimeSeconds"] >= 0


@SQLITE_ONLY
async def test_a_waiting_subscription_follows_a_step_of_the_machine_s_clock(
    wrong: ServerProcess, machine_clock: SteppedClock
) -> None:
    client = await wrong.start()
    later = (datetime.now(UTC) + timedelta(seconds=HOUR)).isoformat()
    id = await create_scheduled(client, at=later)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        another = await create_scheduled(client)
        first = await socket.deliveries(1)

        machine_clock.step_to(HOUR + 1)

        second = await socket.deliveries(1)
    assert run_ids([*first, *second]) == [another, id]
