"""setTaskRunStates: up to 1,000 states in one transaction, each orchestrated by itself."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client
from tests.serving import ON_SQLITE, Serving

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"


async def create(client: Client, count: int, state: str = "PENDING") -> list[str]:
    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "state": {"type": state}}] * count)
    return [payload["taskRun"]["id"] for payload in payloads]


def change(id: str, type: str, **fields: Any) -> dict[str, Any]:
    details = fields.pop("details", None)
    return {"id": id, "state": {"type": type, "details": details}, **fields}


async def set_states(client: Client, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    return await client.ask("SetTaskRunStates", inputs=list(changes))


async def history(client: Client, id: str) -> list[str]:
    return [state["name"] for state in (await client.ask("GetTaskRun", id=id))["states"]]


async def test_results_come_in_the_order_of_the_inputs(client: Client) -> None:
    ids = await create(client, 4)
    types = ["RUNNING", "CANCELLED", "RUNNING", "FAILED"]
    asked = [ids[2], ids[0], ids[3], ids[1]]

    rows = await set_states(client, *(change(id, type) for id, type in zip(asked, types, strict=True)))

    assert [row["id"] for row in rows] == asked
    assert [row["result"]["state"]["type"] for row in rows] == types
    assert [row["error"] for row in rows] == [None] * 4
    stood = [(await client.ask("GetTaskRunState", id=id))["stateType"] for id in asked]
    assert stood == types


async def test_each_row_tells_what_the_rules_made_of_it(server: Serving) -> None:
    client = server.client
    early, running, done = await create(client, 3, "RUNNING")
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
    assert [(each["status"], each["delaySeconds"], each["created"], each["state"]["name"]) for each in results] == [
        ("WAIT", 10.0, False, "Scheduled"),
        ("ABORT", None, False, "Running"),
        ("ABORT", None, False, "Cancelled"),
        ("ACCEPT", None, True, "Completed"),
    ]
    assert [each["reason"] is None for each in results] == [False, False, False, True]


async def test_a_run_that_is_not_there_is_refused_by_itself_and_the_others_are_moved(client: Client) -> None:
    first, last = await create(client, 2)

    rows = await set_states(client, change(first, "RUNNING"), change(NOWHERE, "RUNNING"), change(last, "RUNNING"))

    assert rows[1] == {
        "id": NOWHERE,
        "result": None,
        "error": {"code": "NOT_FOUND", "message": f"No task run has the id {NOWHERE}."},
    }
    assert [(rows[place]["result"]["status"], rows[place]["error"]) for place in (0, 2)] == [("ACCEPT", None)] * 2
    assert [await history(client, id) for id in (first, last)] == [["Pending", "Running"]] * 2


async def test_one_run_may_be_named_several_times_and_its_changes_follow_each_other(client: Client) -> None:
    one, other = await create(client, 2, "SCHEDULED")

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
    assert await history(client, one) == ["Scheduled", "Pending", "Running", "Completed"]
    assert await history(client, other) == ["Scheduled", "Pending"]


async def test_one_transition_twice_in_a_call_is_made_once(client: Client) -> None:
    (id,) = await create(client, 1)
    running = change(id, "RUNNING", details={"transitionId": TRANSITION})

    first, second = await set_states(client, running, running)

    assert (first["result"]["created"], second["result"]["created"]) == (True, False)
    assert second["result"]["state"] == first["result"]["state"]
    assert await history(client, id) == ["Pending", "Running"]


async def test_force_is_of_its_row_alone(client: Client) -> None:
    forced, asked = await create(client, 2)

    rows = await set_states(client, change(forced, "PENDING", force=True), change(asked, "PENDING"))

    assert [row["result"]["status"] for row in rows] == ["ACCEPT", "ABORT"]


async def test_a_lost_lease_is_of_its_row_alone(client: Client) -> None:
    lost, free = await create(client, 2, "SCHEDULED")

    rows = await set_states(client, change(lost, "RUNNING", leaseId=NOWHERE), change(free, "RUNNING"))

    assert [row["result"]["status"] for row in rows] == ["ABORT", "ACCEPT"]
    assert await history(client, lost) == ["Scheduled"]


@ON_SQLITE
async def test_a_fault_undoes_the_whole_call(client: Client, tmp_path: Path) -> None:
    first, broken, last = await create(client, 3)
    with closing(sqlite3.connect(tmp_path / "runyard.db", isolation_level=None)) as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON task_run_state WHEN new.type = 'PAUSED' "
            "BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )

    error = await client.refused(
        "SetTaskRunStates",
        inputs=[change(first, "RUNNING"), change(broken, "PAUSED"), change(last, "RUNNING")],
    )

    assert error["code"] == "INTERNAL"
    assert [await history(client, id) for id in (first, broken, last)] == [["Pending"]] * 3


async def test_no_changes_at_all_are_an_empty_answer(client: Client) -> None:
    assert await set_states(client) == []


async def test_a_thousand_runs_are_moved_at_once(client: Client) -> None:
    ids = await create(client, 1000)

    rows = await set_states(client, *(change(id, "RUNNING") for id in ids))

    assert [row["id"] for row in rows] == ids
    assert {row["result"]["status"] for row in rows} == {"ACCEPT"}
    assert {run["stateType"] for run in (await client.ask("ListTaskRuns", first=1000))["nodes"]} == {"RUNNING"}


async def test_more_than_a_thousand_changes_are_refused_and_none_is_made(client: Client) -> None:
    (id,) = await create(client, 1)

    error = await client.refused("SetTaskRunStates", inputs=[change(id, "RUNNING")] * 1001)

    assert error == {
        "message": "inputs: takes at most 1,000 items at once, not 1,001.",
        "code": "BAD_USER_INPUT",
        "argument": "inputs",
    }
    assert await history(client, id) == ["Pending"]


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"id": "nonsense"}, "inputs.1.id"),
        ({"leaseId": "nonsense"}, "inputs.1.leaseId"),
        ({"state": {"type": "RUNNING", "details": {"transitionId": "1"}}}, "inputs.1.state.details.transitionId"),
    ],
)
async def test_a_malformed_change_is_named_by_its_place_and_none_is_made(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    first, second = await create(client, 2)

    error = await client.refused(
        "SetTaskRunStates", inputs=[change(first, "RUNNING"), {**change(second, "RUNNING"), **wrong}]
    )

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert [await history(client, id) for id in (first, second)] == [["Pending"]] * 2
