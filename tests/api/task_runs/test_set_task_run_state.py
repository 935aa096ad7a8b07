"""setTaskRunState: what clients see of the rules' answers, and what a state carries."""

import asyncio
from typing import Any

import pytest

from tests.client import Client
from tests.serving import Serving

NOW = "2030-01-01T12:00:00.000000Z"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"


async def create(client: Client, state: str = "PENDING", **fields: Any) -> str:
    payload = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": {"type": state}, **fields})
    return payload["taskRun"]["id"]


async def create_flow_run(client: Client, state: dict[str, Any]) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "state": state})
    return payload["flowRun"]["id"]


async def propose(client: Client, id: str, type: str, **state: Any) -> dict[str, Any]:
    return await client.ask("SetTaskRunState", id=id, state={"type": type, **state})


async def history(client: Client, id: str) -> list[str]:
    """The names of the states that the run has had."""
    return [state["name"] for state in (await client.ask("GetTaskRun", id=id))["states"]]


async def test_an_accepted_state_is_the_run_s_own_and_in_its_history(client: Client) -> None:
    id = await create(client)

    result = await propose(client, id, "RUNNING")

    state_id = result["state"].pop("id")
    assert result == {
        "status": "ACCEPT",
        "reason": None,
        "delaySeconds": None,
        "created": True,
        "state": {
            "type": "RUNNING",
            "name": "Running",
            "timestamp": NOW,
            "message": None,
            "data": None,
            "details": {"scheduledTime": None, "transitionId": None, "pauseTimeout": None, "pauseReschedule": False},
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
    run = await client.ask("GetTaskRun", id=id)
    assert run["stateId"] == state_id
    assert await history(client, id) == ["Pending", "Running"]


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
async def test_a_state_without_a_name_is_called_after_its_type(client: Client, type: str, name: str) -> None:
    id = await create(client)

    result = await propose(client, id, type)

    assert (result["status"], result["state"]["type"], result["state"]["name"]) == ("ACCEPT", type, name)
    assert await history(client, id) == ["Pending", name]


async def test_the_figures_follow_the_states(server: Serving) -> None:
    client = server.client
    id = await create(client)
    server.clock.advance(3)
    await propose(client, id, "RUNNING")
    server.clock.advance(10.25)

    result = await propose(client, id, "COMPLETED")

    assert result["taskRun"] == {
        "id": id,
        "stateType": "COMPLETED",
        "runCount": 1,
        "startTime": "2030-01-01T12:00:03.000000Z",
        "endTime": "2030-01-01T12:00:13.250000Z",
        "totalRunTimeSeconds": 10.25,
    }
    assert (await client.ask("GetTaskRun", id=id))["estimatedStartTimeDeltaSeconds"] == 3.0


async def test_the_state_alone_can_be_asked_for(client: Client) -> None:
    id = await create(client)
    await propose(client, id, "RUNNING", name="Trying")

    run = await client.ask("GetTaskRunState", id=id)

    assert (run["stateType"], (await client.ask("GetTaskRun", id=id))["stateName"]) == ("RUNNING", "Trying")


# --- the four answers ---


async def test_a_run_that_comes_before_its_time_is_told_to_wait_and_nothing_changes(server: Serving) -> None:
    client = server.client
    id = await create(client)
    await propose(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(90)})
    before = await client.ask("GetTaskRun", id=id)

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["created"]) == ("WAIT", 90.0, False)
    assert result["reason"] == "The run is scheduled for later."
    assert result["state"]["id"] == before["stateId"]
    assert await client.ask("GetTaskRun", id=id) == before


async def test_a_run_whose_time_has_come_may_run(server: Serving) -> None:
    client = server.client
    id = await create(client)
    await propose(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(90)})
    server.clock.advance(90)

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["created"]) == ("ACCEPT", None, True)


async def test_a_second_claim_is_aborted_and_nothing_changes(client: Client) -> None:
    id = await create(client, "SCHEDULED")
    first = await propose(client, id, "PENDING")
    before = await client.ask("GetTaskRun", id=id)

    second = await propose(client, id, "PENDING")

    assert first["status"] == "ACCEPT"
    assert (second["status"], second["created"]) == ("ABORT", False)
    assert second["reason"] == "The run is PENDING: it can not be claimed again."
    assert second["state"] == first["state"]
    assert await client.ask("GetTaskRun", id=id) == before


async def test_of_ten_concurrent_claims_one_is_accepted(client: Client) -> None:
    id = await create(client, "SCHEDULED")

    results = await asyncio.gather(*(propose(client, id, "PENDING") for _ in range(10)))

    assert sorted(result["status"] for result in results) == ["ABORT"] * 9 + ["ACCEPT"]
    assert await history(client, id) == ["Scheduled", "Pending"]


async def test_a_run_with_a_kept_result_is_rejected_and_keeps_it(client: Client) -> None:
    id = await create(client)
    await propose(client, id, "COMPLETED", data={"type": "reference", "at": "s3://here"})
    before = await client.ask("GetTaskRun", id=id)

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["created"]) == ("REJECT", False)
    assert result["reason"] == "The run is COMPLETED and its result is kept."
    assert (result["state"]["type"], result["state"]["data"]) == ("COMPLETED", {"type": "reference", "at": "s3://here"})
    assert await client.ask("GetTaskRun", id=id) == before


async def test_a_run_without_a_result_may_start_over(client: Client) -> None:
    id = await create(client)
    await propose(client, id, "RUNNING")
    await propose(client, id, "COMPLETED")

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["created"]) == ("ACCEPT", True)
    assert (result["taskRun"]["runCount"], result["taskRun"]["endTime"]) == (1, None)


async def test_a_run_of_a_paused_flow_run_is_put_into_another_state_instead(client: Client) -> None:
    pause = {"pauseTimeout": "2030-01-01T13:00:00.000000Z", "pauseReschedule": True}
    flow_run_id = await create_flow_run(client, {"type": "PAUSED", "details": pause})
    id = await create(client, flowRunId=flow_run_id)

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["created"]) == ("REJECT", True)
    assert result["reason"] == "The flow run is paused."
    assert (result["state"]["type"], result["state"]["name"]) == ("PAUSED", "NotReady")
    assert result["state"]["details"] == {"scheduledTime": None, "transitionId": None, **pause}
    assert (result["taskRun"]["stateType"], result["taskRun"]["runCount"]) == ("PAUSED", 0)
    assert await history(client, id) == ["Pending", "NotReady"]


async def test_a_run_of_a_flow_run_that_is_not_running_is_aborted_and_nothing_changes(client: Client) -> None:
    id = await create(client, flowRunId=await create_flow_run(client, {"type": "CANCELLED"}))

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["created"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert result["reason"] == "The flow run is CANCELLED, not RUNNING."
    assert await history(client, id) == ["Pending"]


async def test_a_run_of_a_running_flow_run_may_run(client: Client) -> None:
    id = await create(client, flowRunId=await create_flow_run(client, {"type": "RUNNING"}))

    result = await propose(client, id, "RUNNING")

    assert (result["status"], result["created"]) == ("ACCEPT", True)


# --- force and leases ---


async def test_force_takes_a_state_that_the_rules_would_not(client: Client) -> None:
    id = await create(client, "RUNNING")

    result = await client.ask("SetTaskRunState", id=id, state={"type": "PENDING"}, force=True)

    assert (result["status"], result["created"], result["state"]["type"]) == ("ACCEPT", True, "PENDING")
    assert await history(client, id) == ["Running", "Pending"]


@pytest.mark.parametrize("force", [False, None])
async def test_without_force_the_rules_are_asked(client: Client, force: bool | None) -> None:
    id = await create(client, "RUNNING")

    result = await client.ask("SetTaskRunState", id=id, state={"type": "PENDING"}, force=force)

    assert (result["status"], result["created"]) == ("ABORT", False)
    assert await history(client, id) == ["Running"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_lease_that_is_not_held_changes_nothing_even_by_force(client: Client, force: bool) -> None:
    id = await create(client)

    result = await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=NOWHERE, force=force)

    assert (result["status"], result["created"], result["state"]["type"]) == ("ABORT", False, "PENDING")
    assert await history(client, id) == ["Pending"]


async def test_the_holder_of_the_lease_may_report(client: Client) -> None:
    id = await create(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        result = await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=delivery["leaseId"])

    assert (result["status"], result["created"], result["taskRun"]["runCount"]) == ("ACCEPT", True, 1)


# --- the same transition again ---


async def test_a_transition_sent_twice_is_made_once(client: Client) -> None:
    id = await create(client)
    first = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})
    before = await client.ask("GetTaskRun", id=id)

    second = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})

    assert (first["status"], first["created"]) == ("ACCEPT", True)
    assert second == {**first, "created": False}
    assert await history(client, id) == ["Pending", "Running"]
    assert await client.ask("GetTaskRun", id=id) == before


async def test_a_transition_sent_ten_times_at_once_is_made_once(client: Client) -> None:
    id = await create(client)

    results = await asyncio.gather(
        *(propose(client, id, "RUNNING", details={"transitionId": TRANSITION}) for _ in range(10))
    )

    assert len({result["state"]["id"] for result in results}) == 1
    assert sorted(result["created"] for result in results) == [False] * 9 + [True]
    assert (await client.ask("GetTaskRun", id=id))["runCount"] == 1
    assert await history(client, id) == ["Pending", "Running"]


async def test_a_transition_sent_again_after_the_run_went_on_answers_the_state_it_made(client: Client) -> None:
    id = await create(client)
    first = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})
    await propose(client, id, "COMPLETED", data="kept")

    again = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})

    assert (again["status"], again["created"], again["state"]) == ("ACCEPT", False, first["state"])
    assert again["taskRun"]["stateType"] == "COMPLETED"
    assert await history(client, id) == ["Pending", "Running", "Completed"]


async def test_a_transition_that_was_rejected_for_another_state_is_rejected_again_without_a_new_one(
    client: Client,
) -> None:
    id = await create(client, flowRunId=await create_flow_run(client, {"type": "PAUSED"}))
    first = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})

    second = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})

    assert (first["status"], first["created"]) == ("REJECT", True)
    assert (second["status"], second["created"], second["state"]) == ("REJECT", False, first["state"])
    assert await history(client, id) == ["Pending", "NotReady"]


async def test_a_transition_that_had_to_wait_may_be_sent_again(server: Serving) -> None:
    client = server.client
    id = await create(client)
    await propose(client, id, "SCHEDULED", details={"scheduledTime": server.clock.in_seconds(10)})
    early = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})
    server.clock.advance(10)

    result = await propose(client, id, "RUNNING", details={"transitionId": TRANSITION})

    assert early["status"] == "WAIT"
    assert (result["status"], result["created"], result["state"]["type"]) == ("ACCEPT", True, "RUNNING")


async def test_two_runs_may_have_a_transition_of_the_same_name(client: Client) -> None:
    ids = [await create(client), await create(client)]

    results = [await propose(client, id, "RUNNING", details={"transitionId": TRANSITION}) for id in ids]

    assert [result["created"] for result in results] == [True, True]


async def test_two_transitions_of_one_run_are_both_made(client: Client) -> None:
    id = await create(client)

    results = [await propose(client, id, "RUNNING", details={"transitionId": each}) for each in (TRANSITION, NOWHERE)]

    assert [result["created"] for result in results] == [True, True]
    assert (await client.ask("GetTaskRun", id=id))["runCount"] == 2


# --- what a state carries ---


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
async def test_data_is_kept_as_it_was_sent(client: Client, data: object) -> None:
    id = await create(client)

    result = await propose(client, id, "COMPLETED", data=data)

    assert result["state"]["data"] == data
    assert type(result["state"]["data"]) is type(data)
    assert (await client.ask("GetTaskRun", id=id))["state"]["data"] == data


async def test_a_message_and_a_name_are_kept_as_they_were_sent(client: Client) -> None:
    id = await create(client)

    result = await propose(client, id, "FAILED", name="OutOfDisk", message="No space left on device\n")

    assert (result["state"]["name"], result["state"]["message"]) == ("OutOfDisk", "No space left on device\n")
    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateName"], run["state"]["message"]) == ("OutOfDisk", "No space left on device\n")


async def test_an_empty_name_stays_empty(client: Client) -> None:
    id = await create(client)

    result = await propose(client, id, "RUNNING", name="")

    assert result["state"]["name"] == ""


async def test_details_are_echoed_with_instants_in_utc(client: Client) -> None:
    id = await create(client)
    sent = {
        "scheduledTime": "2030-01-01T12:30:00.5+01:00",
        "transitionId": TRANSITION.upper(),
        "pauseTimeout": "2030-01-02T00:00:00Z",
        "pauseReschedule": True,
        "cacheKey": "k",
    }

    result = await propose(client, id, "PAUSED", details=sent)

    echoed = {
        "scheduledTime": "2030-01-01T11:30:00.500000Z",
        "transitionId": TRANSITION,
        "pauseTimeout": "2030-01-02T00:00:00.000000Z",
        "pauseReschedule": True,
    }
    assert result["state"]["details"] == echoed
    state = (await client.ask("GetTaskRun", id=id))["state"]
    assert state["details"] == {**echoed, "cacheKey": "k", "flowRunId": None, "taskRunId": id}


async def test_a_state_names_the_runs_it_belongs_to(client: Client) -> None:
    flow_run_id = await create_flow_run(client, {"type": "RUNNING"})
    id = await create(client, flowRunId=flow_run_id)

    await propose(client, id, "RUNNING")

    details = (await client.ask("GetTaskRun", id=id))["state"]["details"]
    assert (details["flowRunId"], details["taskRunId"]) == (flow_run_id, id)


# --- refusals ---


async def test_a_run_that_is_not_there_is_not_found(client: Client) -> None:
    error = await client.refused("SetTaskRunState", id=NOWHERE, state={"type": "RUNNING"})

    assert error == {"message": f"No task run has the id {NOWHERE}.", "code": "NOT_FOUND"}


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
    id = await create(client)
    before = await client.ask("GetTaskRun", id=id)

    error = await client.refused("SetTaskRunState", **{"id": id, "state": {"type": "RUNNING"}, **wrong})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert error["message"].startswith(f"{argument}: ")
    assert await client.ask("GetTaskRun", id=id) == before


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
async def test_what_is_no_state_is_refused_and_nothing_changes(client: Client, state: object) -> None:
    id = await create(client)
    before = await client.ask("GetTaskRun", id=id)

    error = await client.refused("SetTaskRunState", id=id, state=state)

    assert error["code"] == "BAD_USER_INPUT"
    assert await client.ask("GetTaskRun", id=id) == before
