"""taskRunStateChanges: every state change as it happens, in order, starting at any cursor."""

import asyncio
import random
from pathlib import Path

import pytest

from db.statements.state_changes import current_position
from resolvers.state_changes import MAX_CHANGES_PER_READ
from schema.inputs.cursors import encode_cursor
from tests.builders.api_runs import create_flow, create_flow_run, create_task_run, set_states_in_turn
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.state_change_followers import follow_state_changes, force_random_states, receive_events, states_of
from tests.websocket_messages import receive_close

STATE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def test_an_event_has_the_run_the_state_and_the_previous_type(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server) as socket:
        id = await create_task_run(client, name="quick-ferry")
        await set_states_in_turn(client, id, "RUNNING", force=True)
        first, second = await receive_events(socket, 2)

    states = (await client.execute("GetTaskRun", id=id))["states"]
    assert [each["id"] for each in states] == [first["state"]["id"], second["state"]["id"]]
    assert first == {
        "cursor": first["cursor"],
        "gap": False,
        "previousStateType": None,
        "state": {
            "id": states[0]["id"],
            "type": "PENDING",
            "name": "Pending",
            "timestamp": "2030-01-01T12:00:00.000000Z",
            "message": None,
        },
        "taskRun": {
            "id": id,
            "name": "quick-ferry",
            "taskKey": "t",
            "stateType": first["taskRun"]["stateType"],
        },
    }
    assert (second["state"]["type"], second["previousStateType"], second["gap"]) == ("RUNNING", "PENDING", False)
    assert second["taskRun"]["stateType"] == "RUNNING"


async def test_changes_before_the_subscription_are_not_sent(server: RunningServer, client: Client) -> None:
    await set_states_in_turn(client, await create_task_run(client), "RUNNING", force=True)
    async with follow_state_changes(server) as socket:
        id = await create_task_run(client)

        assert states_of(await receive_events(socket, 1)) == [(id, "PENDING")]


async def test_a_cursor_resumes_directly_after_its_change(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server) as socket:
        id = await create_task_run(client)
        await set_states_in_turn(client, id, "RUNNING", force=True)
        first, second = await receive_events(socket, 2)
    await set_states_in_turn(client, id, "COMPLETED", force=True)

    async with follow_state_changes(server, after=first["cursor"]) as socket:
        again, third = await receive_events(socket, 2)

    assert (again["cursor"], again["state"]) == (second["cursor"], second["state"])
    assert (third["state"]["type"], third["gap"]) == ("COMPLETED", False)


async def test_an_event_has_the_run_as_of_reading_the_change(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server) as socket:
        id = await create_task_run(client)
        (first,) = await receive_events(socket, 1)
    await set_states_in_turn(client, id, "RUNNING", "COMPLETED", force=True)

    async with follow_state_changes(server, after=first["cursor"]) as socket:
        found = await receive_events(socket, 2)

    assert [(event["state"]["type"], event["taskRun"]["stateType"]) for event in found] == [
        ("RUNNING", "COMPLETED"),
        ("COMPLETED", "COMPLETED"),
    ]


async def test_a_cursor_stays_valid_across_a_restart(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url) as before, follow_state_changes(before) as socket:
        id = await create_task_run(before.client)
        (first,) = await receive_events(socket, 1)
        await set_states_in_turn(before.client, id, "RUNNING", force=True)

    async with run_server(tmp_path, database_url=database_url) as after:
        await set_states_in_turn(after.client, id, "COMPLETED", force=True)
        async with follow_state_changes(after, after=first["cursor"]) as socket:
            found = await receive_events(socket, 2)

    assert states_of(found) == [(id, "RUNNING"), (id, "COMPLETED")]
    assert [event["gap"] for event in found] == [False, False]


async def test_more_changes_than_one_page_are_sent_in_order(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server) as socket:
        first = await create_task_run(client)
        (event,) = await receive_events(socket, 1)
    count = 2 * MAX_CHANGES_PER_READ + 50
    payloads = (await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * count))["results"]

    async with follow_state_changes(server, after=event["cursor"]) as socket:
        found = await receive_events(socket, count)
        await set_states_in_turn(client, first, "RUNNING", force=True)
        (last,) = await receive_events(socket, 1)

    assert [id for id, _ in states_of(found)] == [payload["taskRun"]["id"] for payload in payloads]
    assert states_of([last]) == [(first, "RUNNING")]


INVALID_CURSOR = "is not a cursor of this feed. Use the `cursor` of a change."


@pytest.mark.parametrize(
    ("cursor", "message"),
    [
        ("nonsense", INVALID_CURSOR),
        ("", INVALID_CURSOR),
        (encode_cursor([2, "seal", None, STATE]), INVALID_CURSOR),
        (encode_cursor(["changes", 1, None, "nonsense"]), INVALID_CURSOR),
        (encode_cursor(["changes", 1, None, STATE.upper()]), INVALID_CURSOR),
        (encode_cursor(["changes", 1, -1, STATE]), INVALID_CURSOR),
        (encode_cursor(["changes", 1, 2**63, STATE]), INVALID_CURSOR),
        (encode_cursor(["changes", 1, True, STATE]), INVALID_CURSOR),
        (
            encode_cursor(["changes", 2, None, STATE]),
            "is a cursor of another server version. Subscribe again without it.",
        ),
    ],
    ids=[
        "not a cursor",
        "empty",
        "cursor of a list",
        "invalid id",
        "upper-case id",
        "negative number",
        "number too large",
        "not a number",
        "another version",
    ],
)
async def test_an_invalid_cursor_is_refused(client: Client, cursor: str, message: str) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("TaskRunStateChanges", after=cursor)

        refusal = await socket.receive()

    assert (refusal["id"], refusal["type"]) == (id, "error")
    (error,) = refusal["payload"]
    assert error["message"] == f"after: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "after"}


async def test_only_changes_of_matching_runs_are_sent(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server, filter={"taskKey": {"in": ["mine"]}, "tags": {"all": ["a"]}}) as socket:
        await create_task_run(client, taskKey="other", tags=["a"])
        await create_task_run(client, taskKey="mine", tags=["b"])
        id = await create_task_run(client, taskKey="mine", tags=["a", "b"])
        (event,) = await receive_events(socket, 1)

    assert states_of([event]) == [(id, "PENDING")]
    assert event["gap"] is False


async def test_the_filter_applies_to_the_run_as_of_reading_the_change(server: RunningServer, client: Client) -> None:
    async with follow_state_changes(server) as socket:
        done, waiting = await create_task_run(client), await create_task_run(client)
        first, _ = await receive_events(socket, 2)
    await set_states_in_turn(client, done, "RUNNING", "COMPLETED", force=True)
    await set_states_in_turn(client, waiting, "RUNNING", force=True)

    filter = {"state": {"type": {"in": ["COMPLETED"]}}}
    async with follow_state_changes(server, filter=filter, after=first["cursor"]) as socket:
        found = await receive_events(socket, 2)

    assert states_of(found) == [(done, "RUNNING"), (done, "COMPLETED")]


async def test_a_filter_may_match_the_flow_run(server: RunningServer, client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING", flowId=await create_flow(client, "f"))
    filter = {"flowRun": {"flow": {"name": {"in": ["f"]}}}, "not": {"taskKey": {"in": ["u"]}}}
    async with follow_state_changes(server, filter=filter) as socket:
        await create_task_run(client)
        await create_task_run(client, taskKey="u", flowRunId=flow_run_id)
        id = await create_task_run(client, flowRunId=flow_run_id)

        assert states_of(await receive_events(socket, 1)) == [(id, "PENDING")]


async def test_an_invalid_filter_is_refused(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", filter={"flowRunId": {"in": ["nonsense"]}})

        refusal = await socket.receive()

    assert refusal["type"] == "error"
    assert refusal["payload"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "filter.flowRunId.in.0"}


async def test_changes_of_deleted_runs_are_skipped_and_their_cursors_stay_valid(
    server: RunningServer, client: Client
) -> None:
    async with follow_state_changes(server) as socket:
        deleted, kept = await create_task_run(client), await create_task_run(client)
        first, _ = await receive_events(socket, 2)
        await set_states_in_turn(client, deleted, "RUNNING", force=True)
        (event,) = await receive_events(socket, 1)
        await client.execute("DeleteTaskRun", id=deleted)
    await set_states_in_turn(client, kept, "RUNNING", force=True)

    for cursor, expected in ((first["cursor"], ["PENDING", "RUNNING"]), (event["cursor"], ["RUNNING"])):
        async with follow_state_changes(server, after=cursor) as socket:
            found = await receive_events(socket, len(expected))

        assert states_of(found) == [(kept, type) for type in expected]
        assert [event["gap"] for event in found] == [False] * len(expected)


async def test_an_event_can_select_related_objects_of_the_run(server: RunningServer, client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING", flowId=await create_flow(client, "f"))
    document = (
        "subscription { taskRunStateChanges { state { data } taskRun { flowRun { flow { name } } states { type } } } }"
    )
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": document}})
        await asyncio.wait_for(server.clock.wait_until_idle(1), TIMEOUT_SECONDS)
        await create_task_run(client, flowRunId=flow_run_id)

        assert await socket.event() == {
            "state": {"data": None},
            "taskRun": {"flowRun": {"flow": {"name": "f"}}, "states": [{"type": "PENDING"}]},
        }


@pytest.mark.parametrize(("behind", "gap"), [(5, False), (6, True)])
async def test_a_subscriber_too_far_behind_skips_to_recent_changes_with_a_gap(
    database_url: str, tmp_path: Path, behind: int, gap: bool
) -> None:
    async with run_server(tmp_path, database_url=database_url, feed_backlog=5) as server:
        async with follow_state_changes(server) as socket:
            await create_task_run(server.client)
            (first,) = await receive_events(socket, 1)
        payloads = (await server.client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * behind))["results"]
        ids = [payload["taskRun"]["id"] for payload in payloads]

        async with follow_state_changes(server, after=first["cursor"]) as socket:
            found = await receive_events(socket, 5)
            ids.append(await create_task_run(server.client))
            found += await receive_events(socket, 1)

    assert [id for id, _ in states_of(found)] == ids[-6:]
    assert [event["gap"] for event in found] == [gap, False, False, False, False, False]


@pytest.mark.parametrize(("transaction", "id"), [(None, "f"), (2**62, "0"), (0, "0")])
async def test_an_unusable_cursor_starts_at_the_current_position_with_a_gap(
    server: RunningServer, client: Client, transaction: int | None, id: str
) -> None:
    if (server.services.database.is_shared, transaction) == (True, 0):
        pytest.skip("On PostgreSQL this position precedes all changes.")
    await create_task_run(client)
    cursor = encode_cursor(["changes", 1, transaction, STATE.replace("0", id)])

    async with follow_state_changes(server, after=cursor) as socket:
        new = await create_task_run(client)
        await set_states_in_turn(client, new, "RUNNING", force=True)
        found = await receive_events(socket, 2)

    assert states_of(found) == [(new, "PENDING"), (new, "RUNNING")]
    assert [event["gap"] for event in found] == [True, False]


async def test_states_of_concurrent_writers_are_sent_once_and_in_order_per_run(
    server: RunningServer, client: Client
) -> None:
    chance = random.Random(1)  # noqa: S311 - the same writes each time
    async with follow_state_changes(server) as one, follow_state_changes(server, count=2) as other:
        ids = [await create_task_run(client) for _ in range(5)]

        types = ["RUNNING", "PAUSED"] * 3
        written = sum(await asyncio.gather(*(force_random_states(client, ids, types, chance) for _ in range(8))))
        found, found_by_other = await asyncio.gather(*(receive_events(each, 5 + written) for each in (one, other)))

    assert written == 8 * 6 * 3
    assert [event["cursor"] for event in found] == [event["cursor"] for event in found_by_other]
    for id in ids:
        history = [state["id"] for state in (await client.execute("GetTaskRun", id=id))["states"]]
        sent = [event["state"]["id"] for event in found if event["taskRun"]["id"] == id]
        assert sent == history
    for id in ids:
        mine = [event for event in found if event["taskRun"]["id"] == id]
        types = [event["state"]["type"] for event in mine]
        assert [event["previousStateType"] for event in mine] == [None, *types[:-1]]


@SQLITE_ONLY
async def test_a_subscriber_reads_one_page_at_a_time_and_nothing_per_change(
    server: RunningServer, client: Client
) -> None:
    await create_task_run(client)
    count = 2 * MAX_CHANGES_PER_READ + 50
    start = await server.services.database.read(current_position)
    await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * count)
    changes = await server.services.feed.follow({}, start)

    read_counts: list[int] = []
    async with server.record_reads() as statements:
        for _ in range(count):
            await anext(changes)
            read_counts.append(len(statements))
    await changes.aclose()

    # The last page is not full, so its lag is not checked.
    assert read_counts == [3] * MAX_CHANGES_PER_READ + [6] * MAX_CHANGES_PER_READ + [8] * 50


async def test_a_stopping_server_closes_the_socket_without_completing_the_subscription(server: RunningServer) -> None:
    async with follow_state_changes(server) as socket:
        await asyncio.wait_for(server.services.drain(), TIMEOUT_SECONDS)

        assert await receive_close(socket.connection) == (1012, "The server is stopping")


async def test_every_change_after_the_cursor_of_the_present_is_sent(server: RunningServer, client: Client) -> None:
    before = await create_task_run(client)
    cursor = await client.execute("GetStateChangeCursor")
    id = await create_task_run(client)

    async with follow_state_changes(server, after=cursor) as socket:
        sent = states_of(await receive_events(socket, 1))
        # The change before it is sent again if a transaction of another database delayed it.
        while sent == [(before, "PENDING")]:
            sent = states_of(await receive_events(socket, 1))
    assert sent == [(id, "PENDING")]


async def test_the_cursor_of_an_empty_database_precedes_the_first_change(server: RunningServer, client: Client) -> None:
    cursor = await client.execute("GetStateChangeCursor")
    id = await create_task_run(client)

    async with follow_state_changes(server, after=cursor) as socket:
        (event,) = await receive_events(socket, 1)
    assert (states_of([event]), event["gap"]) == ([(id, "PENDING")], False)


@pytest.mark.parametrize("by", ["complete", "close", "abort"])
async def test_an_ended_subscription_leaves_nothing_behind(server: RunningServer, client: Client, by: str) -> None:
    feed = server.services.feed
    async with client.socket() as socket:
        id = await socket.subscribe("TaskRunStateChanges")
        await asyncio.wait_for(server.clock.wait_until_idle(1), TIMEOUT_SECONDS)
        assert len(feed._followers) == 1
        feed._follower_ended.clear()

        if by == "complete":
            await socket.send({"id": id, "type": "complete"})
        elif by == "close":
            await socket.connection.close()
        else:
            socket.connection.transport.abort()
        await asyncio.wait_for(feed._follower_ended.wait(), TIMEOUT_SECONDS)

    assert feed._followers == set()


async def test_a_client_that_does_not_read_does_not_delay_shutdown(database_url: str, tmp_path: Path) -> None:
    async with (
        run_server(tmp_path, database_url=database_url, stop_seconds=1) as server,
        follow_state_changes(server) as unread,
    ):
        unread.connection.transport.pause_reading()
        # Random, because WebSocket messages are compressed.
        inputs = [{"taskKey": "t", "name": random.Random(7).randbytes(1750).hex()}] * 1000  # noqa: S311
        for _ in range(5):
            await server.client.execute("CreateTaskRuns", inputs=inputs)

        await asyncio.wait_for(server.services.drain(), TIMEOUT_SECONDS)

        unread.connection.transport.abort()
