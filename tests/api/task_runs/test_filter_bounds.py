"""Filters that read a long column of each row need a task key or a time range beside them."""

from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.queued_runs import create_scheduled
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer
from tests.state_change_followers import follow_state_changes, receive_events

THEN = "2030-01-01T12:00:00Z"
MESSAGE = {"stateMessage": {"contains": "disk"}}
METADATA = {"metadata": {"contains": {"team": "a"}}}
KEY = {"taskKey": {"in": ["t"]}}
CREATED = {"createdAt": {"after": THEN}}
HINT = "requires a condition on `taskKey` (`in` or `startsWith`) or a time range beside it, such as `createdAt: {after: …}`."


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("filter", "argument"),
    [
        (MESSAGE, "filter.stateMessage"),
        (METADATA, "filter.metadata"),
        ({**MESSAGE, "taskKey": {"startsWith": ""}}, "filter.stateMessage"),
        ({**MESSAGE, "taskKey": {"notIn": ["t"]}}, "filter.stateMessage"),
        ({**MESSAGE, "taskKey": {"contains": "t"}}, "filter.stateMessage"),
        ({**MESSAGE, "createdAt": {"isNull": False}}, "filter.stateMessage"),
        ({**MESSAGE, "tags": {"all": ["x"]}}, "filter.stateMessage"),
        ({**MESSAGE, "not": KEY}, "filter.stateMessage"),
        ({"and": [MESSAGE, {"name": {"in": ["x"]}}]}, "filter.and.0.stateMessage"),
        ({"or": [{**MESSAGE, **KEY}, METADATA]}, "filter.or.1.metadata"),
        ({**METADATA, "or": [KEY, {"name": {"in": ["x"]}}]}, "filter.metadata"),
        ({"not": MESSAGE}, "filter.not.stateMessage"),
        ({"not": {**MESSAGE, **KEY}}, "filter.not.stateMessage"),
        ({"not": {"and": [{**MESSAGE, **KEY}]}}, "filter.not.and.0.stateMessage"),
    ],
)
async def test_a_condition_without_bounds_is_refused(client: Client, filter: dict[str, Any], argument: str) -> None:
    error = await client.execute_refused("CountTaskRuns", filter=filter)

    assert error == {"message": f"{argument}: {HINT}", "code": "BAD_USER_INPUT", "argument": argument}


@SQLITE_ONLY
@pytest.mark.parametrize(
    "filter",
    [
        {**MESSAGE, **KEY},
        {**METADATA, "taskKey": {"startsWith": "t"}},
        *({**MESSAGE, name: {"after": THEN}} for name in ("createdAt", "startTime", "endTime", "stateTimestamp")),
        *({**MESSAGE, name: {"before": THEN}} for name in ("expectedStartTime", "nextScheduledStartTime")),
        {"and": [MESSAGE, METADATA, KEY]},
        {"and": [MESSAGE], **CREATED},
        {"or": [MESSAGE, METADATA], **CREATED},
        {**MESSAGE, "or": [KEY, CREATED]},
        {"or": [{**MESSAGE, **KEY}, {**METADATA, **CREATED}]},
        {"not": {"not": MESSAGE}, **KEY},
    ],
)
async def test_a_condition_with_bounds_is_accepted(client: Client, filter: dict[str, Any]) -> None:
    assert await client.execute("CountTaskRuns", filter=filter) == 0


@SQLITE_ONLY
async def test_lists_history_deletions_and_the_feed_refuse_conditions_without_bounds(client: Client) -> None:
    span = {"start": THEN, "end": "2030-01-01T13:00:00Z", "intervalSeconds": 3600}
    errors = [
        await client.execute_refused("ListTaskRuns", filter=MESSAGE),
        await client.execute_refused("GetTaskRunHistory", filter=MESSAGE, **span),
        await client.execute_refused("DeleteTaskRuns", filter=MESSAGE),
    ]
    async with client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", filter=MESSAGE)
        (feed_error,) = (await socket.receive())["payload"]

    assert [each["argument"] for each in errors] == ["filter.stateMessage"] * 3
    assert feed_error["extensions"]["argument"] == "filter.stateMessage"


async def test_lists_counts_history_and_deletions_apply_the_conditions(client: Client) -> None:
    ids = [await create_task_run(client, metadata={"team": team}) for team in ("a", "b", "a")]
    await set_task_run_state(client, ids[0], "FAILED", message="The disk is full.")
    both = {**MESSAGE, **METADATA, **KEY, "runCount": {"atMost": 0}, "totalRunTimeSeconds": {"atMost": 0}}
    span = {"start": THEN, "end": "2030-01-01T13:00:00Z", "intervalSeconds": 3600}

    page = await client.execute("ListTaskRuns", filter=both)
    (interval,) = await client.execute("GetTaskRunHistory", filter=both, **span)
    deleted = await client.execute("DeleteTaskRuns", filter={**METADATA, **KEY})

    assert ([node["id"] for node in page["nodes"]], page["totalCount"]) == ([ids[0]], 1)
    assert [(each["stateName"], each["countRuns"]) for each in interval["states"]] == [("Failed", 1)]
    assert deleted["deleted"] == 2
    assert [node["id"] for node in (await client.execute("ListTaskRuns"))["nodes"]] == [ids[1]]


async def test_the_feed_applies_the_conditions(server: RunningServer) -> None:
    client = server.client
    async with follow_state_changes(server, filter={**METADATA, **KEY, "dynamicKey": {"in": ["2", "3"]}}) as socket:
        await create_task_run(client, dynamicKey="1", metadata={"team": "a"})
        await create_task_run(client, dynamicKey="2", metadata={"team": "b"})
        id = await create_task_run(client, dynamicKey="3", metadata={"team": "a"})
        (event,) = await receive_events(socket, 1)

    assert event["taskRun"]["id"] == id


async def test_the_worker_name_is_that_of_the_current_lease(client: Client) -> None:
    named, unnamed, waiting = [await create_scheduled(client) for _ in range(3)]
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"], workerName="mill-1"))["deliveries"]
    await client.execute("ClaimTaskRuns", taskKeys=["t"])
    by_worker = {"workerName": {"startsWith": "mill"}}
    during = await client.execute("ListTaskRuns", filter=by_worker)
    without = await client.execute("ListTaskRuns", filter={"workerName": {"isNull": True}})

    await client.execute("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]])

    assert [node["id"] for node in during["nodes"]] == [named]
    assert [node["id"] for node in without["nodes"]] == [waiting, unnamed]
    assert (await client.execute("ListTaskRuns", filter=by_worker))["nodes"] == []


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("contains", "argument", "message"),
    [
        ([], "filter.metadata.contains", "must be a JSON object."),
        ("text", "filter.metadata.contains", "must be a JSON object."),
        ({"a": 1, "b": [1]}, "filter.metadata.contains.b", "must be text, a number, a Boolean value or null."),
        ({"a": {}}, "filter.metadata.contains.a", "must be text, a number, a Boolean value or null."),
        (
            dict.fromkeys(map(str, range(101))),
            "filter",
            "exceeds the limit of 100 conditions. A list operator such as `in` counts as one.",
        ),
    ],
)
async def test_metadata_is_compared_with_an_object_of_scalars(
    client: Client, contains: object, argument: str, message: str
) -> None:
    error = await client.execute_refused("CountTaskRuns", filter={**KEY, "metadata": {"contains": contains}})

    assert error == {"message": f"{argument}: {message}", "code": "BAD_USER_INPUT", "argument": argument}
