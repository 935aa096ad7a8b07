"""setTaskRunState: orchestration results as clients see them, and the contents of a state."""

import asyncio
from typing import Any

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.ids import TRANSITION_ID, UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def test_an_accepted_state_becomes_current_and_enters_the_history(client: Client) -> None:
    id = await create_task_run(client)

    result = await set_task_run_state(client, id, "RUNNING")

    state_id = result["state"].pop("id")
    assert result == {
        "status": "ACCEPT",
        "reason": None,
        "delaySeconds": None,
        "stateCreated": True,
        "state": {
            "type": "RUNNING",
            "name": "Running",
            "timestamp": NOW,
            "message": None,
            "data": None,
            "details": {"scheduledTime": None, "transitionId": None, "pauseTimeoutAt": None, "pauseReschedule": False},
        },
        "taskRun": {
            "id": id,
            "stateType": "RUNNING",
            "runCount": 1,
            "startTime": NOW,
            "endTime": None,
            "totalRunTimeSeconds": 0.0,
        },
    }
    run = await client.execute("GetTaskRun", id=id)
    assert run["stateId"] == state_id
    assert await read_state_names(client, id) == ["Pending", "Running"]


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("SCHEDULED", "Scheduled"),
        ("RUNNING", "Running"),
        ("COMPLETED", "Completed"),
        ("FAILED", "Failed"),
        ("CANCELLED", "Cancelled"),
        ("CRASHED", "Crashed"),
        ("PAUSED", "Paused"),
        ("CANCELLING", "Cancelling"),
    ],
)
async def test_a_state_without_a_name_is_named_after_its_type(client: Client, type: str, name: str) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"))

    result = await set_task_run_state(client, id, type)

    assert (result["status"], result["state"]["type"], result["state"]["name"]) == ("ACCEPT", type, name)
    assert await read_state_names(client, id) == ["Pending", name]


async def test_times_and_run_count_follow_the_states(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client)
    server.clock.advance(3)
    await set_task_run_state(client, id, "RUNNING")
    server.clock.advance(10.25)

    result = await set_task_run_state(client, id, "COMPLETED")

    assert result["taskRun"] == {
        "id": id,
        "stateType": "COMPLETED",
        "runCount": 1,
        "startTime": "2030-01-01T12:00:03.000000Z",
        "endTime": "2030-01-01T12:00:13.250000Z",
        "totalRunTimeSeconds": 10.25,
    }
    assert (await client.execute("GetTaskRun", id=id))["estimatedStartTimeDeltaSeconds"] == 3.0


async def test_the_state_type_can_be_read_alone(client: Client) -> None:
    id = await create_task_run(client)
    await set_task_run_state(client, id, "RUNNING", name="Trying")

    run = await client.execute("GetTaskRunState", id=id)

    assert (run["stateType"], (await client.execute("GetTaskRun", id=id))["stateName"]) == ("RUNNING", "Trying")


async def test_starting_before_the_scheduled_time_has_to_wait_and_changes_nothing(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client)
    await set_task_run_state(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(90)})
    before = await client.execute("GetTaskRun", id=id)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["stateCreated"]) == ("WAIT", 90.0, False)
    assert result["reason"] == "The run is scheduled for 2030-01-01T12:01:30.000000Z."
    assert result["state"]["id"] == before["stateId"]
    assert await client.execute("GetTaskRun", id=id) == before


async def test_a_run_may_start_at_its_scheduled_time(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client)
    await set_task_run_state(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(90)})
    server.clock.advance(90)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["stateCreated"]) == ("ACCEPT", None, True)


async def test_a_second_claim_is_aborted_and_nothing_changes(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    first = await set_task_run_state(client, id, "PENDING")
    before = await client.execute("GetTaskRun", id=id)

    second = await set_task_run_state(client, id, "PENDING")

    assert first["status"] == "ACCEPT"
    assert (second["status"], second["stateCreated"]) == ("ABORT", False)
    assert second["reason"] == "The run is PENDING and cannot be claimed."
    assert second["state"] == first["state"]
    assert await client.execute("GetTaskRun", id=id) == before


async def test_one_of_ten_concurrent_claims_is_accepted(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")

    results = await asyncio.gather(*(set_task_run_state(client, id, "PENDING") for _ in range(10)))

    assert sorted(result["status"] for result in results) == ["ABORT"] * 9 + ["ACCEPT"]
    assert await read_state_names(client, id) == ["Scheduled", "Pending"]


async def test_restarting_a_run_with_a_stored_result_is_rejected_and_changes_nothing(client: Client) -> None:
    id = await create_task_run(client)
    await set_task_run_state(client, id, "COMPLETED", data={"type": "reference", "at": "s3://here"})
    before = await client.execute("GetTaskRun", id=id)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert result["reason"] == "The task run is COMPLETED with a persisted result and cannot change its state."
    assert (result["state"]["type"], result["state"]["data"]) == ("COMPLETED", {"type": "reference", "at": "s3://here"})
    assert await client.execute("GetTaskRun", id=id) == before


async def test_a_run_without_a_stored_result_may_restart(client: Client) -> None:
    id = await create_task_run(client)
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, "COMPLETED")

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)
    assert (result["taskRun"]["runCount"], result["taskRun"]["endTime"]) == (1, None)


async def test_starting_a_run_of_a_paused_flow_run_pauses_it_instead(client: Client) -> None:
    pause = {"pauseTimeoutAt": "2030-01-01T13:00:00.000000Z", "pauseReschedule": True}
    flow_run_id = await create_flow_run(client, {"type": "PAUSED", "details": pause})
    id = await create_task_run(client, flowRunId=flow_run_id)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("REJECT", True)
    assert result["reason"] == "The flow run is PAUSED. Propose RUNNING again after it resumes."
    assert (result["state"]["type"], result["state"]["name"]) == ("PAUSED", "NotReady")
    assert result["state"]["details"] == {"scheduledTime": None, "transitionId": None, **pause}
    assert (result["taskRun"]["stateType"], result["taskRun"]["runCount"]) == ("PAUSED", 0)
    assert await read_state_names(client, id) == ["Pending", "NotReady"]


async def test_starting_a_run_of_a_cancelled_flow_run_aborts_without_changes(client: Client) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "CANCELLED"))

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert result["reason"] == "The flow run is CANCELLED; its task runs can run only while it is RUNNING."
    assert await read_state_names(client, id) == ["Pending"]


async def test_a_run_of_a_running_flow_run_may_start(client: Client) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"))

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)


async def test_force_bypasses_the_orchestration_rules(client: Client) -> None:
    id = await create_task_run(client, "RUNNING")

    result = await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"}, force=True)

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ACCEPT", True, "PENDING")
    assert await read_state_names(client, id) == ["Running", "Pending"]


@pytest.mark.parametrize("force", [{"force": False}, {}], ids=["false", "omitted"])
async def test_the_orchestration_rules_apply_without_force(client: Client, force: dict[str, bool]) -> None:
    id = await create_task_run(client, "RUNNING")

    result = await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"}, **force)

    assert (result["status"], result["stateCreated"]) == ("ABORT", False)
    assert await read_state_names(client, id) == ["Running"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_lease_that_is_not_held_aborts_even_with_force(client: Client, force: bool) -> None:
    id = await create_task_run(client)

    result = await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=UNKNOWN_ID, force=force)

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await read_state_names(client, id) == ["Pending"]


async def test_the_lease_holder_may_report_a_state(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        result = await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=delivery["leaseId"])

    assert (result["status"], result["stateCreated"], result["taskRun"]["runCount"]) == ("ACCEPT", True, 1)


async def test_a_transition_sent_twice_is_applied_once(client: Client) -> None:
    id = await create_task_run(client)
    first = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})
    before = await client.execute("GetTaskRun", id=id)

    second = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    assert (first["status"], first["stateCreated"]) == ("ACCEPT", True)
    assert second == {**first, "stateCreated": False}
    assert await read_state_names(client, id) == ["Pending", "Running"]
    assert await client.execute("GetTaskRun", id=id) == before


async def test_a_transition_sent_ten_times_concurrently_is_applied_once(client: Client) -> None:
    id = await create_task_run(client)

    results = await asyncio.gather(
        *(set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID}) for _ in range(10))
    )

    assert len({result["state"]["id"] for result in results}) == 1
    assert sorted(result["stateCreated"] for result in results) == [False] * 9 + [True]
    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 1
    assert await read_state_names(client, id) == ["Pending", "Running"]


async def test_a_transition_resent_after_later_ones_returns_its_original_state(client: Client) -> None:
    id = await create_task_run(client)
    first = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})
    await set_task_run_state(client, id, "COMPLETED", data="kept")

    again = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    assert (again["status"], again["stateCreated"], again["state"]) == ("ACCEPT", False, first["state"])
    assert again["taskRun"]["stateType"] == "COMPLETED"
    assert await read_state_names(client, id) == ["Pending", "Running", "Completed"]


async def test_a_resent_rejected_transition_is_rejected_again_without_a_new_state(
    client: Client,
) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "PAUSED"))
    first = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    second = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    assert (first["status"], first["stateCreated"]) == ("REJECT", True)
    assert (second["status"], second["stateCreated"], second["state"]) == ("REJECT", False, first["state"])
    assert await read_state_names(client, id) == ["Pending", "NotReady"]


async def test_a_transition_that_had_to_wait_may_be_resent(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client)
    await set_task_run_state(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(10)})
    early = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})
    server.clock.advance(10)

    result = await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    assert early["status"] == "WAIT"
    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("ACCEPT", True, "RUNNING")


async def test_two_runs_may_use_the_same_transition_id(client: Client) -> None:
    ids = [await create_task_run(client), await create_task_run(client)]

    results = [await set_task_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID}) for id in ids]

    assert [result["stateCreated"] for result in results] == [True, True]


async def test_different_transitions_of_one_run_are_both_applied(client: Client) -> None:
    id = await create_task_run(client)

    results = [
        await set_task_run_state(client, id, "RUNNING", details={"transitionId": each})
        for each in (TRANSITION_ID, UNKNOWN_ID)
    ]

    assert [result["stateCreated"] for result in results] == [True, True]
    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 2


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        "",
        0,
        False,
        "text",
        -1.5,
        2**53,
        [1, [None, {}], "ä"],
        {"b": {"a": [1, 2]}, "a": None, "type": "reference"},
    ],
)
async def test_data_is_stored_as_sent(client: Client, data: object) -> None:
    id = await create_task_run(client)

    result = await set_task_run_state(client, id, "COMPLETED", data=data)

    assert result["state"]["data"] == data
    assert type(result["state"]["data"]) is type(data)
    assert (await client.execute("GetTaskRun", id=id))["state"]["data"] == data


async def test_message_and_name_are_stored_as_sent(client: Client) -> None:
    id = await create_task_run(client)

    result = await set_task_run_state(client, id, "FAILED", name="OutOfDisk", message="No space left on device\n")

    assert (result["state"]["name"], result["state"]["message"]) == ("OutOfDisk", "No space left on device\n")
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateName"], run["state"]["message"]) == ("OutOfDisk", "No space left on device\n")


async def test_an_empty_name_stays_empty(client: Client) -> None:
    id = await create_task_run(client)

    result = await set_task_run_state(client, id, "RUNNING", name="")

    assert result["state"]["name"] == ""


async def test_details_are_returned_with_timestamps_in_utc(client: Client) -> None:
    id = await create_task_run(client)
    sent = {
        "scheduledTime": "2030-01-01T12:30:00.5+01:00",
        "transitionId": TRANSITION_ID.upper(),
        "pauseTimeoutAt": "2030-01-02T00:00:00Z",
        "pauseReschedule": True,
        "cacheKey": "k",
    }

    result = await set_task_run_state(client, id, "PAUSED", details=sent)

    returned = {
        "scheduledTime": "2030-01-01T11:30:00.500000Z",
        "transitionId": TRANSITION_ID,
        "pauseTimeoutAt": "2030-01-02T00:00:00.000000Z",
        "pauseReschedule": True,
    }
    assert result["state"]["details"] == returned
    state = (await client.execute("GetTaskRun", id=id))["state"]
    assert state["details"] == {**returned, "cacheKey": "k", "flowRunId": None, "taskRunId": id}


async def test_state_details_name_the_flow_run_and_the_task_run(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, flowRunId=flow_run_id)

    await set_task_run_state(client, id, "RUNNING")

    details = (await client.execute("GetTaskRun", id=id))["state"]["details"]
    assert (details["flowRunId"], details["taskRunId"]) == (flow_run_id, id)


async def test_an_unknown_task_run_is_not_found(client: Client) -> None:
    error = await client.execute_refused("SetTaskRunState", id=UNKNOWN_ID, state={"type": "RUNNING"})

    assert error == {"message": f"id: No task run has the id {UNKNOWN_ID}.", "code": "NOT_FOUND", "argument": "id"}


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"id": "nonsense"}, "id"),
        ({"leaseId": "nonsense"}, "leaseId"),
        ({"state": {"type": "RUNNING", "details": {"transitionId": "1"}}}, "state.details.transitionId"),
        ({"state": {"type": "RUNNING", "details": {"taskParametersId": ""}}}, "state.details.taskParametersId"),
        ({"state": {"type": "RUNNING", "details": {"childFlowRunId": "x"}}}, "state.details.childFlowRunId"),
    ],
)
async def test_a_malformed_argument_is_named_and_nothing_changes(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    id = await create_task_run(client)
    before = await client.execute("GetTaskRun", id=id)

    error = await client.execute_refused("SetTaskRunState", **{"id": id, "state": {"type": "RUNNING"}, **wrong})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert error["message"].startswith(f"{argument}: ")
    assert await client.execute("GetTaskRun", id=id) == before


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"type": "running"},
        {"type": "DONE"},
        {"type": "RUNNING", "timestamp": NOW},
        {"type": "SCHEDULED", "details": {"scheduledTime": "tomorrow"}},
        {"type": "SCHEDULED", "details": {"scheduledTime": "2030-01-01T12:00:00"}},
        {"type": "SCHEDULED", "details": {"scheduledTime": 1_900_000_000}},
        {"type": "SCHEDULED", "details": {"scheduledTime": "2030-02-30T12:00:00Z"}},
    ],
)
async def test_an_invalid_state_is_refused_and_nothing_changes(client: Client, state: object) -> None:
    id = await create_task_run(client)
    before = await client.execute("GetTaskRun", id=id)

    error = await client.execute_refused("SetTaskRunState", id=id, state=state)

    assert error["code"] == "BAD_USER_INPUT"
    assert await client.execute("GetTaskRun", id=id) == before
