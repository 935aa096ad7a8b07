"""Each rule as a client meets it: the answer, and what is in the history afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from db.enums import StateType
from db.sqlite.database import SQLiteDatabase
from resolvers.errors import NotFound
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.task_runs import NewTaskRun, create_task_runs, read_histories, read_task_runs
from resolvers.transitions.set_states import StateChange, TaskRunOutcome, set_task_run_states
from tests.builders.transitions import in_seconds, propose
from tests.client import Client
from tests.serving import Serving
from tests.storage.open_database import opened

TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def create(client: Client, state: str, details: dict[str, Any] | None = None, **fields: Any) -> str:
    first = {"type": state, "details": details}
    return (await client.ask("CreateTaskRun", input={"taskKey": "t", "state": first, **fields}))["taskRun"]["id"]


async def create_flow_run(client: Client, state: str) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "state": {"type": state}})
    return payload["flowRun"]["id"]


async def ask(client: Client, id: str, type: str, **arguments: Any) -> dict[str, Any]:
    details = arguments.pop("details", None)
    data = arguments.pop("data", None)
    state = {"type": type, "details": details, "data": data}
    return await client.ask("SetTaskRunState", id=id, state=state, **arguments)


async def history(client: Client, id: str) -> list[str]:
    """The names of the states that the run has had, oldest first."""
    return [state["name"] for state in (await client.ask("GetTaskRun", id=id))["states"]]


# --- fence_lost_leases ---


async def test_the_lease_holder_may_report_a_state(client: Client) -> None:
    id = await create(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        answers = [await ask(client, id, type, leaseId=delivery["leaseId"]) for type in ("PENDING", "RUNNING")]

    assert [(each["status"], each["created"]) for each in answers] == [("ACCEPT", True), ("ACCEPT", True)]
    assert await history(client, id) == ["Scheduled", "Pending", "Running"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_worker_whose_run_has_ended_meanwhile_changes_nothing(client: Client, force: bool) -> None:
    id = await create(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        await ask(client, id, "CANCELLED")
        before = await client.ask("GetTaskRun", id=id)

        answer = await ask(client, id, "RUNNING", leaseId=delivery["leaseId"], force=force)

    assert (answer["status"], answer["created"], answer["state"]["type"]) == ("ABORT", False, "CANCELLED")
    assert await client.ask("GetTaskRun", id=id) == before
    assert await history(client, id) == ["Scheduled", "Cancelled"]


async def test_a_worker_whose_run_was_given_to_another_changes_nothing(server: Serving) -> None:
    client = server.client
    id = await create(client, "SCHEDULED")
    async with client.socket() as first, client.socket() as second:
        await first.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (lost,) = await first.deliveries(1)
        await first.connection.close()
        await second.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (held,) = await second.deliveries(1)

        refused = await ask(client, id, "RUNNING", leaseId=lost["leaseId"])
        accepted = await ask(client, id, "RUNNING", leaseId=held["leaseId"])

    assert (refused["status"], refused["created"], refused["state"]["type"]) == ("ABORT", False, "SCHEDULED")
    assert (accepted["status"], accepted["created"]) == ("ACCEPT", True)
    assert await history(client, id) == ["Scheduled", "Running"]


# --- prevent_pending ---


async def test_a_background_run_is_claimed_once(client: Client) -> None:
    id = await create(client, "SCHEDULED")

    first, second = [await ask(client, id, "PENDING") for _ in range(2)]

    assert (first["status"], first["created"]) == ("ACCEPT", True)
    assert (second["status"], second["created"], second["state"]) == ("ABORT", False, first["state"])
    assert await history(client, id) == ["Scheduled", "Pending"]


async def test_a_task_run_of_a_flow_run_may_be_pending_twice(client: Client) -> None:
    id = await create(client, "SCHEDULED", flowRunId=await create_flow_run(client, "RUNNING"))

    answers = [await ask(client, id, "PENDING") for _ in range(2)]

    assert [(each["status"], each["created"]) for each in answers] == [("ACCEPT", True), ("ACCEPT", True)]
    assert await history(client, id) == ["Scheduled", "Pending", "Pending"]


async def test_a_flow_run_is_claimed_once(client: Client) -> None:
    id = await create_flow_run(client, "SCHEDULED")

    answers = [await client.ask("SetFlowRunState", id=id, state={"type": "PENDING"}) for _ in range(2)]

    assert [(each["status"], each["created"]) for each in answers] == [("ACCEPT", True), ("ABORT", False)]
    states = (await client.ask("GetFlowRun", id=id))["states"]
    assert [state["name"] for state in states] == ["Scheduled", "Pending"]


# --- leave_terminal_states ---


async def test_a_failed_run_may_start_over(client: Client) -> None:
    id = await create(client, "PENDING")
    for type in ("RUNNING", "RUNNING", "FAILED"):
        await ask(client, id, type)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["taskRun"]["runCount"]) == ("ACCEPT", True, 1)
    assert (await history(client, id))[-2:] == ["Failed", "Running"]


async def test_a_completed_run_with_a_kept_result_stays_as_it_is(client: Client) -> None:
    id = await create(client, "PENDING")
    await ask(client, id, "RUNNING")
    completed = await ask(client, id, "COMPLETED", data={"type": "reference"})
    before = await client.ask("GetTaskRun", id=id)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["state"]) == ("REJECT", False, completed["state"])
    assert await client.ask("GetTaskRun", id=id) == before
    assert await history(client, id) == ["Pending", "Running", "Completed"]


@pytest.mark.parametrize("type", ["CRASHED", "PAUSED", "CANCELLING"])
async def test_a_run_that_has_ended_can_not_crash_or_pause_or_be_called_off(client: Client, type: str) -> None:
    id = await create(client, "FAILED")
    before = await client.ask("GetTaskRun", id=id)

    answer = await ask(client, id, type)

    assert (answer["status"], answer["created"], answer["state"]["type"]) == ("ABORT", False, "FAILED")
    assert await client.ask("GetTaskRun", id=id) == before
    assert await history(client, id) == ["Failed"]


# --- flow_run_must_be_running ---


async def test_a_task_run_of_a_running_flow_run_may_run(client: Client) -> None:
    id = await create(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"]) == ("ACCEPT", True)
    assert await history(client, id) == ["Pending", "Running"]


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "CANCELLING"])
async def test_a_task_run_of_any_other_flow_run_is_aborted_and_keeps_its_state(client: Client, state: str) -> None:
    id = await create(client, "PENDING", flowRunId=await create_flow_run(client, state))
    before = await client.ask("GetTaskRun", id=id)

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"], answer["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await client.ask("GetTaskRun", id=id) == before
    assert await history(client, id) == ["Pending"]


async def test_a_task_run_of_a_paused_flow_run_becomes_not_ready_each_time_and_keeps_its_count(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create(client, "PENDING", flowRunId=flow_run_id)
    await ask(client, id, "RUNNING")
    await ask(client, id, "FAILED")
    await client.ask("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"}, force=True)

    first, second = [await ask(client, id, "RUNNING") for _ in range(2)]

    assert (first["status"], first["created"], first["state"]["name"]) == ("REJECT", True, "NotReady")
    assert (second["status"], second["created"], second["state"]["name"]) == ("REJECT", True, "NotReady")
    assert first["state"]["id"] != second["state"]["id"]
    assert (second["taskRun"]["runCount"], second["taskRun"]["endTime"]) == (1, None)
    assert await history(client, id) == ["Pending", "Running", "Failed", "NotReady", "NotReady"]


# --- copy_scheduled_time and wait_for_scheduled_time ---


async def test_a_claimed_run_keeps_its_scheduled_time_and_waits_for_it(server: Serving) -> None:
    client = server.client
    due = server.clock.in_seconds(100)
    id = await create(client, "SCHEDULED", {"scheduledTime": due})

    claimed = await ask(client, id, "PENDING")
    early = await ask(client, id, "RUNNING")
    server.clock.advance(100)
    in_time = await ask(client, id, "RUNNING")

    assert claimed["state"]["details"]["scheduledTime"] == "2030-01-01T12:01:40.000000Z"
    assert (early["status"], early["created"], early["delaySeconds"]) == ("WAIT", False, 100.0)
    assert early["state"] == claimed["state"]
    assert (in_time["status"], in_time["created"], in_time["delaySeconds"]) == ("ACCEPT", True, None)
    assert await history(client, id) == ["Scheduled", "Pending", "Running"]


async def test_a_run_that_is_claimed_with_a_time_of_its_own_does_not_wait_for_the_old_one(server: Serving) -> None:
    client = server.client
    id = await create(client, "SCHEDULED", {"scheduledTime": server.clock.in_seconds(100)})

    await ask(client, id, "PENDING", details={"scheduledTime": server.clock.in_seconds(-1)})
    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["created"]) == ("ACCEPT", True)
    assert await history(client, id) == ["Scheduled", "Pending", "Running"]


async def test_force_does_not_carry_the_time_over_and_so_the_run_may_start_at_once(server: Serving) -> None:
    client = server.client
    id = await create(client, "SCHEDULED", {"scheduledTime": server.clock.in_seconds(100)})

    claimed = await ask(client, id, "PENDING", force=True)
    answer = await ask(client, id, "RUNNING")

    assert claimed["state"]["details"]["scheduledTime"] is None
    assert (answer["status"], answer["created"]) == ("ACCEPT", True)


async def test_a_run_that_is_told_to_wait_keeps_its_count(server: Serving) -> None:
    client = server.client
    id = await create(client, "RUNNING")
    await ask(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(100)})

    answer = await ask(client, id, "RUNNING")

    assert (answer["status"], answer["delaySeconds"], answer["taskRun"]["runCount"]) == ("WAIT", 100.0, 1)
    assert await history(client, id) == ["Running", "Scheduled"]


# --- several changes in one transaction ---


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    async with opened(tmp_path / "runyard.db") as database:
        yield database


async def new_runs(database: SQLiteDatabase, count: int, state: StateType) -> list[str]:
    wanted = [NewTaskRun("t", str(number), state=propose(state)) for number in range(count)]
    return [created.task_run.id for created in await database.write_all(create_task_runs, wanted)]  # type: ignore[union-attr]


async def states_of(database: SQLiteDatabase, ids: list[str]) -> list[list[str]]:
    histories = await database.read(lambda connection: read_histories(connection, ids))
    return [[state.name for state in states] for states in histories]


async def test_changes_of_one_run_in_one_batch_follow_each_other(database: SQLiteDatabase) -> None:
    one, other = await new_runs(database, 2, StateType.SCHEDULED)
    changes = [
        StateChange(one, propose(StateType.PENDING)),
        StateChange(other, propose(StateType.PENDING)),
        StateChange(one, propose(StateType.PENDING)),
        StateChange(one, propose(StateType.RUNNING)),
        StateChange(other, propose(StateType.CANCELLED)),
        StateChange(one, propose(StateType.COMPLETED)),
    ]

    outcomes = await database.write_all(set_task_run_states, changes)

    assert [(each.status.value, each.created) for each in outcomes if isinstance(each, TaskRunOutcome)] == [
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("ABORT", False),
        ("ACCEPT", True),
        ("ACCEPT", True),
        ("ACCEPT", True),
    ]
    assert await states_of(database, [one, other]) == [
        ["Scheduled", "Pending", "Running", "Completed"],
        ["Scheduled", "Pending", "Cancelled"],
    ]
    runs = await database.read(lambda connection: read_task_runs(connection, [one, other]))
    assert [(run.state_type, run.run_count) for run in runs if run] == [
        (StateType.COMPLETED, 1),
        (StateType.CANCELLED, 0),
    ]


async def test_one_transition_twice_in_a_batch_is_made_once(database: SQLiteDatabase) -> None:
    (id,) = await new_runs(database, 1, StateType.PENDING)
    change = StateChange(id, propose(StateType.RUNNING, transition_id=TRANSITION))

    first, second = await database.write_all(set_task_run_states, [change, change])

    assert isinstance(first, TaskRunOutcome)
    assert isinstance(second, TaskRunOutcome)
    assert (first.status, first.created) == (OrchestrationStatus.ACCEPT, True)
    assert (second.status, second.created, second.state) == (OrchestrationStatus.ACCEPT, False, first.state)
    assert await states_of(database, [id]) == [["Pending", "Running"]]


async def test_a_run_that_is_not_there_is_refused_and_the_others_of_its_batch_are_not(
    database: SQLiteDatabase,
) -> None:
    (id,) = await new_runs(database, 1, StateType.PENDING)
    changes = [StateChange(NOWHERE, propose(StateType.RUNNING)), StateChange(id, propose(StateType.RUNNING))]

    refused, made = await database.write_all(set_task_run_states, changes)

    assert isinstance(refused, NotFound)
    assert isinstance(made, TaskRunOutcome)
    assert (made.status, made.created) == (OrchestrationStatus.ACCEPT, True)
    assert await states_of(database, [id, NOWHERE]) == [["Pending", "Running"], []]


async def test_each_of_a_batch_is_judged_by_itself(database: SQLiteDatabase) -> None:
    ids = await new_runs(database, 3, StateType.RUNNING)
    scheduled = propose(StateType.SCHEDULED, scheduled_time=in_seconds(10))
    await database.write(set_task_run_states, StateChange(ids[2], scheduled))
    types = [StateType.COMPLETED, StateType.PENDING, StateType.RUNNING]

    outcomes = await database.write_all(
        set_task_run_states, [StateChange(id, propose(type)) for id, type in zip(ids, types, strict=True)]
    )

    assert [
        (each.status.value, each.delay_seconds, each.created) for each in outcomes if isinstance(each, TaskRunOutcome)
    ] == [("ACCEPT", None, True), ("ABORT", None, False), ("WAIT", 10.0, False)]
    assert await states_of(database, ids) == [["Running", "Completed"], ["Running"], ["Running", "Scheduled"]]
