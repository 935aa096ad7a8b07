"""The effect of each rule on the response to a client and on the state history of the run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db.enums import StateType
from db.sqlite.database import SQLiteDatabase
from resolvers.errors import NotFound
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.task_runs import NewTaskRun, create_task_runs, read_histories, read_task_runs
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult, set_task_run_states
from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.ids import TRANSITION_ID, UNKNOWN_ID
from tests.builders.transitions import in_seconds, propose
from tests.client import Client
from tests.serving import RunningServer
from tests.storage.open_database import open_database


async def test_the_lease_holder_may_report_a_state(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        results = [
            await set_task_run_state(client, id, type, lease_id=delivery["leaseId"]) for type in ("PENDING", "RUNNING")
        ]

    assert [(each["status"], each["stateCreated"]) for each in results] == [("ACCEPT", True), ("ACCEPT", True)]
    assert await read_state_names(client, id) == ["Scheduled", "Pending", "Running"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_worker_whose_run_was_cancelled_changes_nothing(client: Client, force: bool) -> None:
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        await set_task_run_state(client, id, "CANCELLED")
        before = await client.execute("GetTaskRun", id=id)

        result = await set_task_run_state(client, id, "RUNNING", lease_id=delivery["leaseId"], force=force)

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "CANCELLED")
    assert await client.execute("GetTaskRun", id=id) == before
    assert await read_state_names(client, id) == ["Scheduled", "Cancelled"]


async def test_a_worker_whose_run_was_redelivered_changes_nothing(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as first, client.socket() as second:
        await first.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (lost,) = await first.deliveries(1)
        await first.connection.close()
        await second.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (held,) = await second.deliveries(1)

        refused = await set_task_run_state(client, id, "RUNNING", lease_id=lost["leaseId"])
        accepted = await set_task_run_state(client, id, "RUNNING", lease_id=held["leaseId"])

    assert (refused["status"], refused["stateCreated"], refused["state"]["type"]) == ("ABORT", False, "SCHEDULED")
    assert (accepted["status"], accepted["stateCreated"]) == ("ACCEPT", True)
    assert await read_state_names(client, id) == ["Scheduled", "Running"]


async def test_a_background_run_is_claimed_once(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")

    first, second = [await set_task_run_state(client, id, "PENDING") for _ in range(2)]

    assert (first["status"], first["stateCreated"]) == ("ACCEPT", True)
    assert (second["status"], second["stateCreated"], second["state"]) == ("ABORT", False, first["state"])
    assert await read_state_names(client, id) == ["Scheduled", "Pending"]


async def test_a_task_run_of_a_flow_run_may_be_pending_twice(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED", flowRunId=await create_flow_run(client, "RUNNING"))

    results = [await set_task_run_state(client, id, "PENDING") for _ in range(2)]

    assert [(each["status"], each["stateCreated"]) for each in results] == [("ACCEPT", True), ("ACCEPT", True)]
    assert await read_state_names(client, id) == ["Scheduled", "Pending", "Pending"]


async def test_a_flow_run_is_claimed_once(client: Client) -> None:
    id = await create_flow_run(client, "SCHEDULED")

    results = [await client.execute("SetFlowRunState", id=id, state={"type": "PENDING"}) for _ in range(2)]

    assert [(each["status"], each["stateCreated"]) for each in results] == [("ACCEPT", True), ("ABORT", False)]
    states = (await client.execute("GetFlowRun", id=id))["states"]
    assert [state["name"] for state in states] == ["Scheduled", "Pending"]


async def test_a_failed_run_may_run_again_with_a_new_run_count(client: Client) -> None:
    id = await create_task_run(client, "PENDING")
    for type in ("RUNNING", "RUNNING", "FAILED"):
        await set_task_run_state(client, id, type)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["taskRun"]["runCount"]) == ("ACCEPT", True, 1)
    assert (await read_state_names(client, id))[-2:] == ["Failed", "Running"]


async def test_a_completed_run_with_a_persisted_result_does_not_change(client: Client) -> None:
    id = await create_task_run(client, "PENDING")
    await set_task_run_state(client, id, "RUNNING")
    completed = await set_task_run_state(client, id, "COMPLETED", data={"type": "reference"})
    before = await client.execute("GetTaskRun", id=id)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]) == ("REJECT", False, completed["state"])
    assert await client.execute("GetTaskRun", id=id) == before
    assert await read_state_names(client, id) == ["Pending", "Running", "Completed"]


@pytest.mark.parametrize("type", ["CRASHED", "PAUSED", "CANCELLING"])
async def test_a_terminal_run_cannot_become_crashed_paused_or_cancelling(client: Client, type: str) -> None:
    id = await create_task_run(client, "FAILED")
    before = await client.execute("GetTaskRun", id=id)

    result = await set_task_run_state(client, id, type)

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "FAILED")
    assert await client.execute("GetTaskRun", id=id) == before
    assert await read_state_names(client, id) == ["Failed"]


async def test_a_task_run_of_a_running_flow_run_may_run(client: Client) -> None:
    id = await create_task_run(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)
    assert await read_state_names(client, id) == ["Pending", "Running"]


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "CANCELLING"])
async def test_other_flow_run_states_abort_the_task_run_without_changing_it(client: Client, state: str) -> None:
    id = await create_task_run(client, "PENDING", flowRunId=await create_flow_run(client, state))
    before = await client.execute("GetTaskRun", id=id)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await client.execute("GetTaskRun", id=id) == before
    assert await read_state_names(client, id) == ["Pending"]


async def test_a_paused_flow_run_rejects_each_attempt_as_not_ready_and_uncounted(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "PENDING", flowRunId=flow_run_id)
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, "FAILED")
    await client.execute("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"}, force=True)

    first, second = [await set_task_run_state(client, id, "RUNNING") for _ in range(2)]

    assert (first["status"], first["stateCreated"], first["state"]["name"]) == ("REJECT", True, "NotReady")
    assert (second["status"], second["stateCreated"], second["state"]["name"]) == ("REJECT", True, "NotReady")
    assert first["state"]["id"] != second["state"]["id"]
    assert (second["taskRun"]["runCount"], second["taskRun"]["endTime"]) == (1, None)
    assert await read_state_names(client, id) == ["Pending", "Running", "Failed", "NotReady", "NotReady"]


async def test_a_claimed_run_keeps_its_scheduled_time_and_waits_for_it(server: RunningServer) -> None:
    client = server.client
    due = server.clock.in_seconds(100)
    id = await create_task_run(client, {"type": "SCHEDULED", "details": {"scheduledTime": due}})

    claimed = await set_task_run_state(client, id, "PENDING")
    early = await set_task_run_state(client, id, "RUNNING")
    server.clock.advance(100)
    in_time = await set_task_run_state(client, id, "RUNNING")

    assert claimed["state"]["details"]["scheduledTime"] == "2030-01-01T12:01:40.000000Z"
    assert (early["status"], early["stateCreated"], early["delaySeconds"]) == ("WAIT", False, 100.0)
    assert early["state"] == claimed["state"]
    assert (in_time["status"], in_time["stateCreated"], in_time["delaySeconds"]) == ("ACCEPT", True, None)
    assert await read_state_names(client, id) == ["Scheduled", "Pending", "Running"]


async def test_a_scheduled_time_given_with_a_claim_replaces_the_old_one(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(
        client, {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(100)}}
    )

    await set_task_run_state(client, id, "PENDING", details={"scheduledTime": server.clock.in_seconds(-1)})
    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)
    assert await read_state_names(client, id) == ["Scheduled", "Pending", "Running"]


async def test_a_forced_claim_drops_the_scheduled_time_and_may_run_at_once(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(
        client, {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(100)}}
    )

    claimed = await set_task_run_state(client, id, "PENDING", force=True)
    result = await set_task_run_state(client, id, "RUNNING")

    assert claimed["state"]["details"]["scheduledTime"] is None
    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)


async def test_a_run_that_has_to_wait_keeps_its_run_count(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, "RUNNING")
    await set_task_run_state(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(100)})

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["taskRun"]["runCount"]) == ("WAIT", 100.0, 1)
    assert await read_state_names(client, id) == ["Running", "Scheduled"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    async with open_database(tmp_path / "runyard.db") as database:
        yield database


async def create_runs(database: SQLiteDatabase, count: int, state: StateType) -> list[str]:
    inputs = [NewTaskRun("t", str(number), state=propose(state)) for number in range(count)]
    return [created.task_run.id for created in await database.write_all(create_task_runs, inputs)]  # type: ignore[union-attr]


async def state_names(database: SQLiteDatabase, ids: list[str]) -> list[list[str]]:
    histories = await database.read(lambda connection: read_histories(connection, ids))
    return [[state.name for state in states] for states in histories]


async def test_changes_of_one_run_in_a_batch_apply_in_order(database: SQLiteDatabase) -> None:
    first, second = await create_runs(database, 2, StateType.SCHEDULED)
    changes = [
        StateChange(first, propose(StateType.PENDING)),
        StateChange(second, propose(StateType.PENDING)),
        StateChange(first, propose(StateType.PENDING)),
        StateChange(first, propose(StateType.RUNNING)),
        StateChange(second, propose(StateType.CANCELLED)),
        StateChange(first, propose(StateType.COMPLETED)),
    ]

    outcomes = await database.write_all(set_task_run_states, changes)

    assert [
        (each.status.value, each.state_created) for each in outcomes if isinstance(each, TaskRunTransitionResult)
    ] == [
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("ABORT", False),
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("ACCEPT", True),
    ]
    assert await state_names(database, [first, second]) == [
        ["Scheduled", "Pending", "Running", "Completed"],
        ["Scheduled", "Pending", "Cancelled"],
    ]
    runs = await database.read(lambda connection: read_task_runs(connection, [first, second]))
    assert [(run.state_type, run.run_count) for run in runs if run] == [
        (StateType.COMPLETED, 1),
        (StateType.CANCELLED, 0),
    ]


async def test_a_transition_repeated_in_a_batch_applies_once(database: SQLiteDatabase) -> None:
    (id,) = await create_runs(database, 1, StateType.PENDING)
    change = StateChange(id, propose(StateType.RUNNING, transition_id=TRANSITION_ID))

    first, second = await database.write_all(set_task_run_states, [change, change])

    assert isinstance(first, TaskRunTransitionResult)
    assert isinstance(second, TaskRunTransitionResult)
    assert (first.status, first.state_created) == (OrchestrationStatus.ACCEPT, True)
    assert (second.status, second.state_created, second.state) == (OrchestrationStatus.ACCEPT, False, first.state)
    assert await state_names(database, [id]) == [["Pending", "Running"]]


async def test_a_missing_run_fails_without_affecting_the_rest_of_its_batch(
    database: SQLiteDatabase,
) -> None:
    (id,) = await create_runs(database, 1, StateType.PENDING)
    changes = [StateChange(UNKNOWN_ID, propose(StateType.RUNNING)), StateChange(id, propose(StateType.RUNNING))]

    refused, made = await database.write_all(set_task_run_states, changes)

    assert isinstance(refused, NotFound)
    assert isinstance(made, TaskRunTransitionResult)
    assert (made.status, made.state_created) == (OrchestrationStatus.ACCEPT, True)
    assert await state_names(database, [id, UNKNOWN_ID]) == [["Pending", "Running"], []]


async def test_each_change_in_a_batch_is_decided_independently(database: SQLiteDatabase) -> None:
    ids = await create_runs(database, 3, StateType.RUNNING)
    scheduled = propose(StateType.SCHEDULED, scheduled_time=in_seconds(10))
    await database.write(set_task_run_states, StateChange(ids[2], scheduled))
    types = [StateType.COMPLETED, StateType.PENDING, StateType.RUNNING]

    outcomes = await database.write_all(
        set_task_run_states, [StateChange(id, propose(type)) for id, type in zip(ids, types, strict=True)]
    )

    assert [
        (each.status.value, each.delay_seconds, each.state_created)
        for each in outcomes
        if isinstance(each, TaskRunTransitionResult)
    ] == [("ACCEPT", None, True), ("ABORT", None, False), ("WAIT", 10.0, False)]
    assert await state_names(database, ids) == [["Running", "Completed"], ["Running"], ["Running", "Scheduled"]]
