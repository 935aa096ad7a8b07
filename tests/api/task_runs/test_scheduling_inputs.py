"""createTaskRun: delay, priority, expiry and metadata."""

from typing import Any

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run
from tests.client import Client
from tests.serving import RunningServer

TEN_YEARS = 315_360_000
IN_A_MINUTE = "2030-01-01T12:01:00.000000Z"


async def read(client: Client, id: str) -> dict[str, Any]:
    return await client.execute("GetTaskRun", id=id)


@pytest.mark.parametrize("state", [None, {"type": "SCHEDULED"}, {"type": "SCHEDULED", "details": {}}])
async def test_a_delayed_run_is_scheduled_and_due_after_the_delay(
    server: RunningServer, state: dict[str, Any] | None
) -> None:
    client = server.client
    id = await create_task_run(client, state, delaySeconds=60)
    run = await read(client, id)
    early = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    server.clock.advance(60)
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert (run["stateType"], run["stateName"]) == ("SCHEDULED", "Scheduled")
    assert (run["nextScheduledStartTime"], run["expectedStartTime"]) == (IN_A_MINUTE, IN_A_MINUTE)
    assert run["queueEntry"]["availableAt"] == IN_A_MINUTE
    assert run["states"][0]["details"]["scheduledTime"] == IN_A_MINUTE
    assert early == []
    assert delivery["taskRun"]["id"] == id


async def test_a_delay_of_0_schedules_the_run_for_now(client: Client) -> None:
    id = await create_task_run(client, delaySeconds=0)

    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert delivery["taskRun"]["id"] == id


async def test_a_task_run_of_a_flow_run_can_be_delayed_and_is_not_queued(client: Client) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"), delaySeconds=60)

    run = await read(client, id)

    assert (run["stateType"], run["nextScheduledStartTime"], run["queueEntry"]) == ("SCHEDULED", IN_A_MINUTE, None)


async def test_a_delay_of_ten_years_is_the_longest(client: Client) -> None:
    id = await create_task_run(client, delaySeconds=TEN_YEARS)

    assert (await read(client, id))["nextScheduledStartTime"] == "2039-12-30T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("fields", "argument", "message"),
    [
        ({"delaySeconds": -1}, "delaySeconds", "must be between 0 and 315,360,000 seconds; got -1."),
        ({"delaySeconds": TEN_YEARS + 1}, "delaySeconds", "must be between 0 and 315,360,000 seconds; got 3.1536e+08."),
        (
            {"delaySeconds": 1, "state": {"type": "PENDING"}},
            "delaySeconds",
            "requires a SCHEDULED state; got PENDING.",
        ),
        (
            {"delaySeconds": 1, "state": {"type": "SCHEDULED", "details": {"scheduledTime": IN_A_MINUTE}}},
            "delaySeconds",
            "cannot be combined with `state.details.scheduledTime`.",
        ),
        ({"priority": 11}, "priority", "must be between -10 and 10; got 11."),
        ({"priority": -11}, "priority", "must be between -10 and 10; got -11."),
        (
            {"expiresAt": "2030-01-01T12:00:00Z"},
            "expiresAt",
            "must be in the future; got 2030-01-01T12:00:00.000000Z, and it is 2030-01-01T12:00:00.000000Z.",
        ),
        ({"metadata": []}, "metadata", "must be a JSON object."),
        ({"metadata": 1}, "metadata", "must be a JSON object."),
        ({"metadata": {"a": "x" * 65_529}}, "metadata", "must have at most 65,536 bytes as JSON; got 65,537."),
    ],
)
async def test_an_invalid_value_is_refused_and_nothing_is_created(
    client: Client, fields: dict[str, Any], argument: str, message: str
) -> None:
    one = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", **fields})
    several = await client.execute_refused("CreateTaskRuns", inputs=[{"taskKey": "t"}, {"taskKey": "t", **fields}])

    for error, path in ((one, f"input.{argument}"), (several, f"inputs.1.{argument}")):
        assert error == {"message": f"{path}: {message}", "code": "BAD_USER_INPUT", "argument": path}
    assert await client.execute("CountTaskRuns") == 0


async def test_an_expiry_is_refused_for_a_task_run_of_a_flow_run(client: Client) -> None:
    flow_run = await create_flow_run(client, "RUNNING")

    error = await client.execute_refused(
        "CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run, "expiresAt": IN_A_MINUTE}
    )

    assert error["message"] == "input.expiresAt: cannot be combined with `flowRunId`."


async def test_a_repeated_request_returns_the_run_after_its_expiry(server: RunningServer) -> None:
    fields = {"dynamicKey": "1", "expiresAt": IN_A_MINUTE}
    id = await create_task_run(server.client, **fields)
    server.clock.advance(61)

    assert await create_task_run(server.client, **fields) == id


@pytest.mark.parametrize("in_flow_run", [True, False])
async def test_all_values_are_stored_as_sent(client: Client, in_flow_run: bool) -> None:
    metadata = {"z": 1, "a": [1.0, {"é": None}], "big": 2**63 - 1}
    fields: dict[str, Any] = {"priority": 10, "metadata": metadata}
    if in_flow_run:
        fields["flowRunId"] = await create_flow_run(client, "RUNNING")
    else:
        fields["expiresAt"] = IN_A_MINUTE

    run = await read(client, await create_task_run(client, **fields))

    assert (run["priority"], run["metadata"], list(run["metadata"])) == (10, metadata, ["z", "a", "big"])
    assert run["expiresAt"] == (None if in_flow_run else IN_A_MINUTE)


async def test_values_that_are_omitted_have_defaults(client: Client) -> None:
    run = await read(client, await create_task_run(client))

    assert (run["priority"], run["expiresAt"], run["uniqueKey"], run["metadata"]) == (0, None, None, None)
