"""setTaskRunStates: up to 1,000 states in one transaction, each orchestrated independently."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders.api_runs import create_task_runs, read_state_names
from tests.builders.ids import TRANSITION_ID, UNKNOWN_ID
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer


def change(id: str, type: str, **fields: Any) -> dict[str, Any]:
    details = fields.pop("details", None)
    return {"taskRunId": id, "state": {"type": type, "details": details}, **fields}


async def set_states(client: Client, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    return (await client.execute("SetTaskRunStates", inputs=list(changes)))["results"]


async def test_results_come_in_the_order_of_the_inputs(client: Client) -> None:
    ids = await create_task_runs(client, 4)
    types = ["RUNNING", "CANCELLED", "RUNNING", "FAILED"]
    order = [ids[2], ids[0], ids[3], ids[1]]

    rows = await set_states(client, *(change(id, type) for id, type in zip(order, types, strict=True)))

    assert [row["taskRunId"] for row in rows] == order
    assert [row["result"]["state"]["type"] for row in rows] == types
    assert [row["error"] for row in rows] == [None] * 4
    current = [(await client.execute("GetTaskRunState", id=id))["stateType"] for id in order]
    assert current == types


async def test_each_result_has_the_verdict_for_its_change(server: RunningServer) -> None:
    client = server.client
    early, running, done = await create_task_runs(client, 3, "RUNNING")
    later = {"scheduledTime": server.clock.in_seconds(10)}
    await set_states(client, change(early, "SCHEDULED", details=later), change(done, "CANCELLED"))

    rows = await set_states(
        client,
        change(early, "RUNNING"),
        change(running, "PENDING"),
        change(done, "CRASHED"),
        change(running, "COMPLETED"),
    )

    results = [row["result"] for row in rows]
    assert [
        (each["status"], each["delaySeconds"], each["stateCreated"], each["state"]["name"]) for each in results
    ] == [
        ("WAIT", 10.0, False, "Scheduled"),
        ("ABORT", None, False, "Running"),
        ("ABORT", None, False, "Cancelled"),
        ("ACCEPT", None, True, "Completed"),
    ]
    assert [each["reason"] is None for each in results] == [False, False, False, True]


async def test_an_unknown_run_fails_alone_and_the_others_are_changed(client: Client) -> None:
    first, last = await create_task_runs(client, 2)

    rows = await set_states(client, change(first, "RUNNING"), change(UNKNOWN_ID, "RUNNING"), change(last, "RUNNING"))

    assert rows[1] == {
        "taskRunId": UNKNOWN_ID,
        "result": None,
        "error": {
            "code": "NOT_FOUND",
            "message": f"No task run has the id {UNKNOWN_ID}.",
            "argument": "inputs.1.taskRunId",
        },
    }
    assert [(rows[index]["result"]["status"], rows[index]["error"]) for index in (0, 2)] == [("ACCEPT", None)] * 2
    assert [await read_state_names(client, id) for id in (first, last)] == [["Pending", "Running"]] * 2


async def test_several_changes_of_one_run_are_applied_in_order(client: Client) -> None:
    one, other = await create_task_runs(client, 2, "SCHEDULED")

    rows = await set_states(
        client,
        change(one, "PENDING"),
        change(one, "PENDING"),
        change(other, "PENDING"),
        change(one, "RUNNING"),
        change(one, "COMPLETED"),
    )

    assert [(row["result"]["status"], row["result"]["state"]["name"]) for row in rows] == [
        ("ACCEPT", "Pending"),
        ("ABORT", "Pending"),
        ("ACCEPT", "Pending"),
        ("ACCEPT", "Running"),
        ("ACCEPT", "Completed"),
    ]
    assert await read_state_names(client, one) == ["Scheduled", "Pending", "Running", "Completed"]
    assert await read_state_names(client, other) == ["Scheduled", "Pending"]


async def test_every_result_has_the_run_as_it_is_after_the_request(client: Client) -> None:
    id, other = await create_task_runs(client, 2, "SCHEDULED")

    rows = await set_states(
        client,
        change(id, "RUNNING"),
        change(other, "RUNNING"),
        change(id, "COMPLETED"),
        change(id, "CRASHED"),
    )

    assert [(row["taskRunId"], row["result"]["status"], row["result"]["state"]["name"]) for row in rows] == [
        (id, "ACCEPT", "Running"),
        (other, "ACCEPT", "Running"),
        (id, "ACCEPT", "Completed"),
        (id, "ABORT", "Completed"),
    ]
    completed = {"id": id, "stateType": "COMPLETED", "stateName": "Completed"}
    running = {"id": other, "stateType": "RUNNING", "stateName": "Running"}
    assert [row["result"]["taskRun"] for row in rows] == [completed, running, completed, completed]


async def test_a_repeated_transition_shows_its_state_and_the_run_after_the_request(client: Client) -> None:
    (id,) = await create_task_runs(client, 1)
    running = change(id, "RUNNING", details={"transitionId": TRANSITION_ID})

    first, _, repeated = await set_states(client, running, change(id, "FAILED"), running)

    assert first["result"]["state"]["name"] == repeated["result"]["state"]["name"] == "Running"
    assert [each["result"]["taskRun"]["stateName"] for each in (first, repeated)] == ["Failed", "Failed"]


async def test_a_transition_repeated_in_one_call_is_applied_once(client: Client) -> None:
    (id,) = await create_task_runs(client, 1)
    running = change(id, "RUNNING", details={"transitionId": TRANSITION_ID})

    first, second = await set_states(client, running, running)

    assert (first["result"]["stateCreated"], second["result"]["stateCreated"]) == (True, False)
    assert second["result"]["state"] == first["result"]["state"]
    assert await read_state_names(client, id) == ["Pending", "Running"]


async def test_force_applies_to_its_own_change_only(client: Client) -> None:
    forced, orchestrated = await create_task_runs(client, 2)

    rows = await set_states(client, change(forced, "PENDING", force=True), change(orchestrated, "PENDING"))

    assert [row["result"]["status"] for row in rows] == ["ACCEPT", "ABORT"]


async def test_a_lost_lease_affects_its_own_change_only(client: Client) -> None:
    lost, free = await create_task_runs(client, 2, "SCHEDULED")

    rows = await set_states(client, change(lost, "RUNNING", leaseId=UNKNOWN_ID), change(free, "RUNNING"))

    assert [row["result"]["status"] for row in rows] == ["ABORT", "ACCEPT"]
    assert await read_state_names(client, lost) == ["Scheduled"]


@SQLITE_ONLY
async def test_an_internal_error_rolls_back_the_whole_call(client: Client, tmp_path: Path) -> None:
    first, broken, last = await create_task_runs(client, 3)
    with closing(sqlite3.connect(tmp_path / "runyard.db", isolation_level=None)) as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON task_run_state WHEN new.type = 'PAUSED' "
            "BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )

    error = await client.execute_refused(
        "SetTaskRunStates",
        inputs=[change(first, "RUNNING"), change(broken, "PAUSED"), change(last, "RUNNING")],
    )

    assert error["code"] == "INTERNAL"
    assert [await read_state_names(client, id) for id in (first, broken, last)] == [["Pending"]] * 3


async def test_an_empty_list_of_changes_returns_an_empty_list(client: Client) -> None:
    assert await set_states(client) == []


async def test_a_thousand_states_are_set_in_one_call(client: Client) -> None:
    ids = await create_task_runs(client, 1000)

    rows = await set_states(client, *(change(id, "RUNNING") for id in ids))

    assert [row["taskRunId"] for row in rows] == ids
    assert {row["result"]["status"] for row in rows} == {"ACCEPT"}
    assert {run["stateType"] for run in (await client.execute("ListTaskRuns", first=1000))["nodes"]} == {"RUNNING"}


async def test_more_than_a_thousand_changes_are_refused_and_none_is_applied(client: Client) -> None:
    (id,) = await create_task_runs(client, 1)

    error = await client.execute_refused("SetTaskRunStates", inputs=[change(id, "RUNNING")] * 1001)

    assert error == {
        "message": "inputs: must have at most 1,000 items; got 1,001.",
        "code": "BAD_USER_INPUT",
        "argument": "inputs",
    }
    assert await read_state_names(client, id) == ["Pending"]


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"taskRunId": "nonsense"}, "inputs.1.taskRunId"),
        ({"leaseId": "nonsense"}, "inputs.1.leaseId"),
        ({"state": {"type": "RUNNING", "details": {"transitionId": "1"}}}, "inputs.1.state.details.transitionId"),
    ],
)
async def test_a_malformed_change_is_named_by_its_index_and_none_is_applied(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    first, second = await create_task_runs(client, 2)

    error = await client.execute_refused(
        "SetTaskRunStates", inputs=[change(first, "RUNNING"), {**change(second, "RUNNING"), **wrong}]
    )

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert [await read_state_names(client, id) for id in (first, second)] == [["Pending"]] * 2
