"""What follows the end of a flow run: its task runs and subflows end, and its pause ends when it times out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db.connection import Connection
from db.database import WriteOperation
from resolvers.flow_run_sweeper import (
    FIRST_TIMESTAMP,
    LOOK_BACK,
    MAX_BATCH_SIZE,
    MIN_INTERVAL,
    SweepRequest,
    cancel_orphaned_subflows,
    end_orphaned_task_runs,
    fail_expired_pauses,
)
from tests.builders.api_runs import (
    create_deployment,
    create_flow,
    create_flow_run,
    create_task_run,
    create_task_runs,
    read_slot_holders,
    read_state_names,
    set_flow_run_state,
    set_task_run_state,
)
from tests.builders.queued_runs import create_scheduled
from tests.client import TIMEOUT_SECONDS, Client
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server
from tests.state_change_followers import follow_state_changes, receive_events, states_of

UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
CANCELLED_BY_PARENT = ("CANCELLED", "Cancelled", "The parent flow run was cancelled.")
ALL = SweepRequest(MAX_BATCH_SIZE, FIRST_TIMESTAMP)


async def sweep(server: RunningServer) -> tuple[int, int, int]:
    """Sweep once and return the numbers of changed flow runs that were paused, of subflows, and of task runs."""
    operations: tuple[WriteOperation[SweepRequest, int], ...] = (
        fail_expired_pauses,
        cancel_orphaned_subflows,
        end_orphaned_task_runs,
    )
    paused, subflows, task_runs = [await server.services.database.write(each, ALL) for each in operations]
    return paused, subflows, task_runs


async def let_time_pass(server: RunningServer, seconds: float = MIN_INTERVAL.total_seconds()) -> None:
    """Advance the clock by `seconds` as soon as the sweeper waits for that time."""
    await asyncio.wait_for(server.clock.wait_for_waiter(seconds), TIMEOUT_SECONDS)
    server.clock.advance(seconds)


async def read_state(client: Client, id: str, operation: str = "GetTaskRun") -> tuple[str, str, str | None]:
    """Return type, name and message of a run's state."""
    field = operation[3].lower() + operation[4:]
    query = f'{{ run: {field}(id: "{id}") {{ state {{ type name message }} }} }}'
    state = (await client.http.post("/graphql", json={"query": query})).json()["data"]["run"]["state"]
    return state["type"], state["name"], state["message"]


async def read_flow_run_state(client: Client, id: str) -> tuple[str, str, str | None]:
    return await read_state(client, id, "GetFlowRun")


async def wait_for_state(read: Callable[[], Any], type: str) -> None:
    """Wait until a run is in a state of this type."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await read())[0] != type:
            continue


async def pause(client: Client, server: RunningServer, timeout_seconds: float | None, **fields: Any) -> str:
    """Create a flow run that is PAUSED, with this timeout from now, and return its id."""
    id = await create_flow_run(client, "RUNNING", **fields)
    timeout = None if timeout_seconds is None else server.clock.in_seconds(timeout_seconds)
    paused = await set_flow_run_state(client, id, "PAUSED", details={"pauseTimeoutAt": timeout})
    assert paused["status"] == "ACCEPT"
    return id


async def end_flow_run(client: Client, id: str, type: str = "CANCELLED") -> None:
    assert (await set_flow_run_state(client, id, type))["status"] == "ACCEPT"


# --- task runs ---


@pytest.mark.parametrize("flow_run_state", ["CANCELLED", "CRASHED"])
async def test_task_runs_within_20_seconds_follow_their_flow_run(server: RunningServer, flow_run_state: str) -> None:
    client = server.client
    flow_run = await create_flow_run(client, "RUNNING")
    task_run = await create_task_run(client, "RUNNING", flowRunId=flow_run)
    await end_flow_run(client, flow_run, flow_run_state)

    await let_time_pass(server)

    assert timedelta(seconds=20) >= MIN_INTERVAL
    await wait_for_state(lambda: read_state(client, task_run), flow_run_state)


@pytest.mark.parametrize("state", UNFINISHED)
async def test_a_task_run_in_any_state_is_cancelled_with_its_flow_run(server: RunningServer, state: str) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    id = await create_task_run(server.client, {"type": state, "name": "Before"}, flowRunId=flow_run)
    await end_flow_run(server.client, flow_run)

    assert await sweep(server) == (0, 0, 1)

    assert await read_state(server.client, id) == CANCELLED_BY_PARENT
    assert await read_state_names(server.client, id) == ["Before", "Cancelled"]


@pytest.mark.parametrize("state", UNFINISHED)
async def test_a_task_run_of_a_crashed_flow_run_crashes_unless_it_was_being_cancelled(
    server: RunningServer, state: str
) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    id = await create_task_run(server.client, state, flowRunId=flow_run)
    await end_flow_run(server.client, flow_run, "CRASHED")

    assert await sweep(server) == (0, 0, 1)

    expected = ("CANCELLED", "Cancelled") if state == "CANCELLING" else ("CRASHED", "Crashed")
    assert await read_state(server.client, id) == (*expected, "The parent flow run crashed.")


@pytest.mark.parametrize("flow_run_state", ["CANCELLED", "CRASHED"])
async def test_ended_task_runs_keep_their_states(server: RunningServer, flow_run_state: str) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    ids = [await create_task_run(server.client, state, flowRunId=flow_run) for state in ENDED]
    await end_flow_run(server.client, flow_run, flow_run_state)

    assert await sweep(server) == (0, 0, 0)

    assert [(await read_state(server.client, id))[0] for id in ids] == list(ENDED)


@pytest.mark.parametrize("flow_run_state", ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED"])
async def test_task_runs_of_other_flow_runs_and_background_runs_continue(
    server: RunningServer, flow_run_state: str
) -> None:
    flow_run = await create_flow_run(server.client, flow_run_state)
    ids = [
        await create_task_run(server.client, "RUNNING", flowRunId=flow_run),
        await create_task_run(server.client, "RUNNING"),
    ]

    assert await sweep(server) == (0, 0, 0)

    assert [await read_state_names(server.client, id) for id in ids] == [["Running"], ["Running"]]


async def test_a_flow_run_that_crashed_and_runs_again_keeps_its_task_runs(server: RunningServer) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    id = await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
    await end_flow_run(server.client, flow_run, "CRASHED")
    await end_flow_run(server.client, flow_run, "RUNNING")

    assert await sweep(server) == (0, 0, 0)

    assert await read_state_names(server.client, id) == ["Running"]


async def test_slots_of_a_cancelled_flow_run_go_to_the_runs_that_wait(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="gpu", limit=1)
    flow_run = await create_flow_run(client, "RUNNING")
    holder = await create_task_run(client, flowRunId=flow_run, tags=["gpu"])
    assert (await set_task_run_state(client, holder, "RUNNING"))["status"] == "ACCEPT"
    waiter = await create_scheduled(client, tags=["gpu"])
    held_back = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    await end_flow_run(client, flow_run)
    held = await read_slot_holders(client, "gpu")

    await sweep(server)

    assert (held_back, held) == ([], [holder])
    assert await read_slot_holders(client, "gpu") == []
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    result = await set_task_run_state(client, waiter, "RUNNING", lease_id=delivery["leaseId"])
    assert (result["status"], await read_slot_holders(client, "gpu")) == ("ACCEPT", [waiter])


async def test_followers_of_state_changes_see_that_task_runs_ended(server: RunningServer) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    id = await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
    async with follow_state_changes(server) as socket:
        await end_flow_run(server.client, flow_run)

        await sweep(server)

        assert states_of(await receive_events(socket, 1)) == [(id, "CANCELLED")]


async def test_a_task_run_that_starts_in_a_cancelled_flow_run_is_cancelled_too(server: RunningServer) -> None:
    client = server.client
    flow_run = await create_flow_run(client, "CANCELLED")
    await let_time_pass(server)
    server.clock.advance(3600)
    id = await create_task_run(client, "RUNNING", flowRunId=flow_run)

    await let_time_pass(server)

    await wait_for_state(lambda: read_state(client, id), "CANCELLED")


async def test_a_server_that_starts_ends_what_was_left_long_before(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url) as server:
        flow_run = await create_flow_run(server.client, "RUNNING")
        id = await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
        await end_flow_run(server.client, flow_run)
        clock = server.clock
    clock.advance(3 * LOOK_BACK.total_seconds())

    async with run_server(tmp_path, clock, database_url=database_url) as restarted:
        await let_time_pass(restarted)

        await wait_for_state(lambda: read_state(restarted.client, id), "CANCELLED")


async def test_many_task_runs_end_in_batches(server: RunningServer) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    ids = await create_task_runs(server.client, MAX_BATCH_SIZE + 1, "RUNNING", flowRunId=flow_run)
    await end_flow_run(server.client, flow_run)
    database = server.services.database

    sizes = [await database.write(end_orphaned_task_runs, ALL) for _ in range(3)]

    assert sizes == [MAX_BATCH_SIZE, 1, 0]
    assert [await read_state(server.client, id) for id in (ids[0], ids[-1])] == [CANCELLED_BY_PARENT] * 2


@pytest.mark.parametrize("count", [1, 50])
async def test_a_batch_takes_a_constant_number_of_statements(server: RunningServer, count: int) -> None:
    await server.client.execute("SetConcurrencyLimit", tag="gpu", limit=100)
    flow_run = await create_flow_run(server.client, "RUNNING")
    for id in await create_task_runs(server.client, count, flowRunId=flow_run, tags=["gpu"]):
        await set_task_run_state(server.client, id, "RUNNING")
    await end_flow_run(server.client, flow_run)
    statements: list[int] = []

    def count_statements(connection: Connection, requests: Sequence[SweepRequest]) -> list[int | Exception]:
        before: int = connection.statements  # type: ignore[attr-defined]
        results = end_orphaned_task_runs(connection, requests)
        statements.append(connection.statements - before)  # type: ignore[attr-defined]
        return results

    assert await server.services.database.write(count_statements, ALL) == count
    (taken,) = statements
    # On PostgreSQL the writes are sent after the operation.
    assert taken <= 10


# --- several servers ---


@POSTGRESQL_ONLY
async def test_servers_that_sweep_at_the_same_time_end_each_run_once(
    server: RunningServer, database_url: str, tmp_path: Path
) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    ids = await create_task_runs(server.client, 20, "RUNNING", flowRunId=flow_run)
    await end_flow_run(server.client, flow_run)
    paused = await pause(server.client, server, -1)

    async with run_server(tmp_path, database_url=database_url) as other:
        counts = await asyncio.gather(sweep(server), sweep(other))

    assert [sum(each) for each in zip(*counts, strict=True)] == [1, 0, 20]
    assert [state["name"] for state in (await server.client.execute("GetFlowRun", id=paused))["states"]] == [
        "Running",
        "Paused",
        "Failed",
    ]
    assert [await read_state_names(server.client, id) for id in ids] == [["Running", "Cancelled"]] * 20


async def test_sweeps_during_state_changes_leave_no_run_unfinished_and_no_slot_taken(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="gpu", limit=100)
    flow_runs = [await create_flow_run(client, "RUNNING") for _ in range(5)]
    ids = [id for each in flow_runs for id in await create_task_runs(client, 4, flowRunId=each, tags=["gpu"])]
    started = [await set_task_run_state(client, id, "RUNNING") for id in ids]
    held = await read_slot_holders(client, "gpu")

    await asyncio.gather(
        *(end_flow_run(client, id, type) for id, type in zip(flow_runs, ["CANCELLED", "CRASHED"] * 3, strict=False)),
        *(set_task_run_state(client, id, "COMPLETED") for id in ids[::2]),
        *(sweep(server) for _ in range(5)),
    )
    await sweep(server)

    assert [result["status"] for result in started] == ["ACCEPT"] * 20
    assert sorted(held) == sorted(ids)
    assert await sweep(server) == (0, 0, 0)
    assert await read_slot_holders(client, "gpu") == []
    assert {(await read_state(client, id))[0] for id in ids} <= set(ENDED)


@asynccontextmanager
async def locked(database_url: str, table: str, id: str) -> AsyncIterator[None]:
    """Lock a row while the block runs, as another server does."""
    async with database_connection(database_url) as connection, connection.transaction():
        await connection.fetch(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", id)
        yield


@POSTGRESQL_ONLY
async def test_a_locked_row_does_not_delay_the_others(server: RunningServer, database_url: str) -> None:
    client = server.client
    flow_run = await create_flow_run(client, "RUNNING")
    ids = await create_task_runs(client, 3, "RUNNING", flowRunId=flow_run)
    await end_flow_run(client, flow_run)
    paused = [await pause(client, server, -1) for _ in range(2)]

    async with locked(database_url, "task_run", ids[0]), locked(database_url, "flow_run", paused[0]):
        first = await sweep(server)
        names = [await read_state_names(client, id) for id in ids]
    second = await sweep(server)

    assert (first, second) == ((1, 0, 2), (1, 0, 1))
    assert names == [["Running"], ["Running", "Cancelled"], ["Running", "Cancelled"]]


@POSTGRESQL_ONLY
async def test_task_runs_of_a_flow_run_that_another_server_sweeps_are_left_to_it(
    server: RunningServer, database_url: str
) -> None:
    flow_run = await create_flow_run(server.client, "RUNNING")
    await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
    await end_flow_run(server.client, flow_run)

    async with locked(database_url, "flow_run", flow_run):
        while_locked = await sweep(server)

    assert (while_locked, await sweep(server)) == ((0, 0, 0), (0, 0, 1))


@SQLITE_ONLY
async def test_an_idle_server_reads_nothing(server: RunningServer) -> None:
    await let_time_pass(server)
    flow_run = await create_flow_run(server.client, "RUNNING")
    await let_time_pass(server)
    id = await create_task_run(server.client, "RUNNING", flowRunId=flow_run)
    await end_flow_run(server.client, flow_run)
    await let_time_pass(server)
    await wait_for_state(lambda: read_state(server.client, id), "CANCELLED")
    await let_time_pass(server)
    await server.client.http.get("/healthz")

    async with server.record_reads() as statements:
        for _ in range(10):
            server.clock.advance(3600)
            await server.client.http.get("/healthz")

    assert [text for text in statements if "pause_timeout_at" in text] == []


# --- pauses ---


async def test_a_pause_ends_within_five_seconds_of_its_timeout(server: RunningServer) -> None:
    id = await pause(server.client, server, 60)
    await let_time_pass(server)
    before = await read_flow_run_state(server.client, id)

    server.clock.advance(60 - MIN_INTERVAL.total_seconds())
    await let_time_pass_until_swept(server)

    assert before[0] == "PAUSED"
    await wait_for_state(lambda: read_flow_run_state(server.client, id), "FAILED")


async def let_time_pass_until_swept(server: RunningServer) -> None:
    """Let the five seconds pass within which a pause ends."""
    for _ in range(5):
        server.clock.advance(1)
        await server.client.http.get("/healthz")


async def test_a_pause_that_timed_out_fails_the_flow_run_even_with_retries_left(server: RunningServer) -> None:
    id = await pause(server.client, server, -1, retryPolicy={"retries": 3})
    timeout = server.clock.in_seconds(-1).replace("+00:00", ".000000Z")

    assert await sweep(server) == (1, 0, 0)

    assert await read_flow_run_state(server.client, id) == ("FAILED", "Failed", f"The pause timed out at {timeout}.")
    assert await sweep(server) == (0, 0, 0)


async def test_a_pause_continues_until_its_timeout_and_without_one(server: RunningServer) -> None:
    ids = [await pause(server.client, server, 60), await pause(server.client, server, None)]
    server.clock.advance(60)

    assert await sweep(server) == (0, 0, 0)

    assert [(await read_flow_run_state(server.client, id))[0] for id in ids] == ["PAUSED", "PAUSED"]


async def test_a_flow_run_that_resumed_in_time_is_not_failed(server: RunningServer) -> None:
    id = await pause(server.client, server, 60)
    server.clock.advance(59)
    await end_flow_run(server.client, id, "RUNNING")
    server.clock.advance(60)

    assert await sweep(server) == (0, 0, 0)

    assert (await read_flow_run_state(server.client, id))[0] == "RUNNING"


async def test_the_task_run_of_a_paused_subflow_fails_with_it(server: RunningServer) -> None:
    parent = await create_flow_run(server.client, "RUNNING")
    task_run = await create_task_run(server.client, flowRunId=parent)
    await pause(server.client, server, -1, parentTaskRunId=task_run)

    assert await sweep(server) == (1, 0, 0)

    assert (await read_state(server.client, task_run))[0] == "FAILED"


# --- subflows ---


async def create_subflow(client: Client, parent: str, state: str, **fields: Any) -> tuple[str, str]:
    """Create a subflow of a flow run, and return its id and that of the task run that represents it."""
    task_run = await create_task_run(client, flowRunId=parent)
    return await create_flow_run(client, state, parentTaskRunId=task_run, **fields), task_run


@pytest.mark.parametrize("state", UNFINISHED)
async def test_a_subflow_is_cancelled_with_its_parent_and_its_own_task_runs_follow(
    server: RunningServer, state: str
) -> None:
    client = server.client
    parent = await create_flow_run(client, "RUNNING")
    subflow, representing = await create_subflow(client, parent, state)
    nested, nested_representing = await create_subflow(client, subflow, "RUNNING")
    task_run = await create_task_run(client, "RUNNING", flowRunId=nested)
    await end_flow_run(client, parent)

    await let_time_pass(server)
    await wait_for_state(lambda: read_state(client, task_run), "CANCELLED")

    for id in (subflow, nested):
        assert await read_flow_run_state(client, id) == CANCELLED_BY_PARENT
    for id in (representing, nested_representing, task_run):
        assert await read_state(client, id) == CANCELLED_BY_PARENT


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("SCHEDULED", "CANCELLED"),
        ("PENDING", "CANCELLING"),
        ("RUNNING", "CANCELLING"),
        ("PAUSED", "PAUSED"),
        ("CANCELLING", "CANCELLING"),
    ],
)
async def test_the_process_of_a_subflow_with_a_deployment_is_asked_to_stop(
    server: RunningServer, state: str, expected: str
) -> None:
    client = server.client
    deployment = await create_deployment(client, await create_flow(client))
    parent = await create_flow_run(client, "RUNNING")
    subflow, representing = await create_subflow(client, parent, state, deploymentId=deployment)
    await end_flow_run(client, parent)

    subflows = (await sweep(server))[1]

    assert subflows == (state != expected)
    assert (await read_flow_run_state(client, subflow))[0] == expected
    assert await read_state(client, representing) == CANCELLED_BY_PARENT
    assert await sweep(server) == (0, 0, 0)


async def test_a_subflow_outlives_a_crashed_parent(server: RunningServer) -> None:
    client = server.client
    parent = await create_flow_run(client, "RUNNING")
    subflow, representing = await create_subflow(client, parent, "RUNNING")
    await end_flow_run(client, parent, "CRASHED")

    assert await sweep(server) == (0, 0, 1)
    crashed = await read_state(client, representing)
    await end_flow_run(client, subflow, "COMPLETED")

    assert crashed == ("CRASHED", "Crashed", "The parent flow run crashed.")
    assert (await read_state(client, representing))[0] == "COMPLETED"
