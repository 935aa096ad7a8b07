"""taskRunStateChanges: every change of state as it happens, in order, from any place on."""

import asyncio
import random
from pathlib import Path

import pytest

from db.statements.state_changes import present_place
from resolvers.state_changes import LARGEST_PAGE
from schema.inputs.cursors import write_cursor
from tests.client import PATIENCE, Client
from tests.serving import ON_SQLITE, Serving, serving
from tests.state_change_followers import create, events, following, move, states_of

STATE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def test_a_change_is_told_with_the_run_the_state_and_what_was_before(server: Serving, client: Client) -> None:
    async with following(server) as socket:
        id = await create(client, name="quick-ferry")
        await move(client, id, "RUNNING")
        first, second = await events(socket, 2)

    states = (await client.ask("GetTaskRun", id=id))["states"]
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


async def test_what_was_before_the_subscription_is_not_told(server: Serving, client: Client) -> None:
    await move(client, await create(client), "RUNNING")
    async with following(server) as socket:
        id = await create(client)

        assert states_of(await events(socket, 1)) == [(id, "PENDING")]


# --- going on ---


async def test_a_cursor_goes_on_right_behind_its_change(server: Serving, client: Client) -> None:
    async with following(server) as socket:
        id = await create(client)
        await move(client, id, "RUNNING")
        first, second = await events(socket, 2)
    await move(client, id, "COMPLETED")

    async with following(server, after=first["cursor"]) as socket:
        again, third = await events(socket, 2)

    assert (again["cursor"], again["state"]) == (second["cursor"], second["state"])
    assert (third["state"]["type"], third["gap"]) == ("COMPLETED", False)


async def test_a_run_is_shown_as_it_is_when_its_change_is_read(server: Serving, client: Client) -> None:
    async with following(server) as socket:
        id = await create(client)
        (first,) = await events(socket, 1)
    await move(client, id, "RUNNING", "COMPLETED")

    async with following(server, after=first["cursor"]) as socket:
        found = await events(socket, 2)

    assert [(event["state"]["type"], event["taskRun"]["stateType"]) for event in found] == [
        ("RUNNING", "COMPLETED"),
        ("COMPLETED", "COMPLETED"),
    ]


async def test_a_cursor_holds_beyond_a_restart(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database_url=database_url) as before, following(before) as socket:
        id = await create(before.client)
        (first,) = await events(socket, 1)
        await move(before.client, id, "RUNNING")

    async with serving(tmp_path, database_url=database_url) as after:
        await move(after.client, id, "COMPLETED")
        async with following(after, after=first["cursor"]) as socket:
            found = await events(socket, 2)

    assert states_of(found) == [(id, "RUNNING"), (id, "COMPLETED")]
    assert [event["gap"] for event in found] == [False, False]


async def test_more_changes_than_a_page_has_are_told_in_their_order(server: Serving, client: Client) -> None:
    async with following(server) as socket:
        first = await create(client)
        (event,) = await events(socket, 1)
    count = 2 * LARGEST_PAGE + 50
    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * count)

    async with following(server, after=event["cursor"]) as socket:
        found = await events(socket, count)
        await move(client, first, "RUNNING")
        (last,) = await events(socket, 1)

    assert [id for id, _ in states_of(found)] == [payload["taskRun"]["id"] for payload in payloads]
    assert states_of([last]) == [(first, "RUNNING")]


NO_CURSOR = "is no cursor of this feed: take one from a change."


@pytest.mark.parametrize(
    ("cursor", "message"),
    [
        ("nonsense", NO_CURSOR),
        ("", NO_CURSOR),
        (write_cursor([2, "seal", None, STATE]), NO_CURSOR),
        (write_cursor(["changes", 1, None, "nonsense"]), NO_CURSOR),
        (write_cursor(["changes", 1, None, STATE.upper()]), NO_CURSOR),
        (write_cursor(["changes", 1, -1, STATE]), NO_CURSOR),
        (write_cursor(["changes", 1, 2**63, STATE]), NO_CURSOR),
        (write_cursor(["changes", 1, True, STATE]), NO_CURSOR),
        (
            write_cursor(["changes", 2, None, STATE]),
            "is a cursor of another version of this server; begin again without it.",
        ),
    ],
    ids=[
        "no text of ours",
        "empty",
        "a list's",
        "no id",
        "an id in capitals",
        "a negative number",
        "too large a number",
        "no number",
        "another version",
    ],
)
async def test_a_text_that_is_no_cursor_is_refused(client: Client, cursor: str, message: str) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("TaskRunStateChanges", after=cursor)

        refusal = await socket.receive()

    assert (refusal["id"], refusal["type"]) == (id, "error")
    (error,) = refusal["payload"]
    assert error["message"] == f"after: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "after"}


# --- which ---


async def test_only_changes_of_runs_that_the_filter_lets_through_are_told(server: Serving, client: Client) -> None:
    async with following(server, filter={"taskKey": {"any": ["mine"]}, "tags": {"all": ["a"]}}) as socket:
        await create(client, taskKey="other", tags=["a"])
        await create(client, taskKey="mine", tags=["b"])
        id = await create(client, taskKey="mine", tags=["a", "b"])
        (event,) = await events(socket, 1)

    assert states_of([event]) == [(id, "PENDING")]
    assert event["gap"] is False


async def test_the_filter_looks_at_the_run_as_it_is_when_the_change_is_read(server: Serving, client: Client) -> None:
    async with following(server) as socket:
        done, waiting = await create(client), await create(client)
        first, _ = await events(socket, 2)
    await move(client, done, "RUNNING", "COMPLETED")
    await move(client, waiting, "RUNNING")

    filter = {"state": {"type": {"any": ["COMPLETED"]}}}
    async with following(server, filter=filter, after=first["cursor"]) as socket:
        found = await events(socket, 2)

    assert states_of(found) == [(done, "RUNNING"), (done, "COMPLETED")]


async def test_a_filter_may_look_at_the_flow_run(server: Serving, client: Client) -> None:
    flow = await client.ask("CreateFlow", input={"name": "f"})
    made = await client.ask("CreateFlowRun", input={"flowId": flow["flow"]["id"], "state": {"type": "RUNNING"}})
    flow_run_id = made["flowRun"]["id"]
    filter = {"flowRun": {"flow": {"name": {"any": ["f"]}}}, "not": {"taskKey": {"any": ["u"]}}}
    async with following(server, filter=filter) as socket:
        await create(client)
        await create(client, taskKey="u", flowRunId=flow_run_id)
        id = await create(client, flowRunId=flow_run_id)

        assert states_of(await events(socket, 1)) == [(id, "PENDING")]


async def test_a_filter_that_is_at_fault_is_refused(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", filter={"flowRunId": {"any": ["nonsense"]}})

        refusal = await socket.receive()

    assert refusal["type"] == "error"
    assert refusal["payload"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "filter.flowRunId.any.0"}


async def test_changes_of_runs_that_are_deleted_are_gone_and_their_cursors_hold(
    server: Serving, client: Client
) -> None:
    async with following(server) as socket:
        deleted, kept = await create(client), await create(client)
        first, _ = await events(socket, 2)
        await move(client, deleted, "RUNNING")
        (event,) = await events(socket, 1)
        await client.ask("DeleteTaskRun", id=deleted)
    await move(client, kept, "RUNNING")

    for cursor, expected in ((first["cursor"], ["PENDING", "RUNNING"]), (event["cursor"], ["RUNNING"])):
        async with following(server, after=cursor) as socket:
            found = await events(socket, len(expected))

        assert states_of(found) == [(kept, type) for type in expected]
        assert [event["gap"] for event in found] == [False] * len(expected)


async def test_what_belongs_to_the_run_can_be_asked_for(server: Serving, client: Client) -> None:
    flow = await client.ask("CreateFlow", input={"name": "f"})
    flow_run = await client.ask("CreateFlowRun", input={"flowId": flow["flow"]["id"], "state": {"type": "RUNNING"}})
    document = (
        "subscription { taskRunStateChanges { state { data } taskRun { flowRun { flow { name } } states { type } } } }"
    )
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": document}})
        await asyncio.wait_for(server.clock.idle(1), PATIENCE)
        await create(client, flowRunId=flow_run["flowRun"]["id"])

        assert await socket.event() == {
            "state": {"data": None},
            "taskRun": {"flowRun": {"flow": {"name": "f"}}, "states": [{"type": "PENDING"}]},
        }


# --- gaps ---


@pytest.mark.parametrize(("behind", "gap"), [(5, False), (6, True)])
async def test_who_is_too_far_behind_is_taken_to_the_latest_changes_and_told_of_the_gap(
    database_url: str, tmp_path: Path, behind: int, gap: bool
) -> None:
    async with serving(tmp_path, database_url=database_url, feed_backlog=5) as server:
        async with following(server) as socket:
            await create(server.client)
            (first,) = await events(socket, 1)
        payloads = await server.client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * behind)
        ids = [payload["taskRun"]["id"] for payload in payloads]

        async with following(server, after=first["cursor"]) as socket:
            found = await events(socket, 5)
            ids.append(await create(server.client))
            found += await events(socket, 1)

    assert [id for id, _ in states_of(found)] == ids[-6:]
    assert [event["gap"] for event in found] == [gap, False, False, False, False, False]


@pytest.mark.parametrize(("transaction", "id"), [(None, "f"), (2**62, "0"), (0, "0")])
async def test_a_cursor_that_can_not_be_gone_on_from_begins_at_the_present_with_a_gap(
    server: Serving, client: Client, transaction: int | None, id: str
) -> None:
    if (server.life.database.is_shared, transaction) == (True, 0):
        pytest.skip("On PostgreSQL that place is before everything.")
    await create(client)
    cursor = write_cursor(["changes", 1, transaction, STATE.replace("0", id)])

    async with following(server, after=cursor) as socket:
        new = await create(client)
        await move(client, new, "RUNNING")
        found = await events(socket, 2)

    assert states_of(found) == [(new, "PENDING"), (new, "RUNNING")]
    assert [event["gap"] for event in found] == [True, False]


# --- all of them ---


async def test_each_state_is_told_once_and_those_of_a_run_in_their_order_however_many_write(
    server: Serving, client: Client
) -> None:
    chance = random.Random(1)  # noqa: S311 - the same writes each time
    async with following(server) as one, following(server, count=2) as other:
        ids = [await create(client) for _ in range(5)]

        async def write(types: list[str]) -> int:
            written = 0
            for type in types:
                inputs = [{"id": id, "state": {"type": type}, "force": True} for id in chance.sample(ids, 3)]
                rows = await client.ask("SetTaskRunStates", inputs=inputs)
                written += sum(row["result"]["created"] for row in rows)
            return written

        written = sum(await asyncio.gather(*(write(["RUNNING", "PAUSED"] * 3) for _ in range(8))))
        found, found_by_other = await asyncio.gather(*(events(each, 5 + written) for each in (one, other)))

    assert written == 8 * 6 * 3
    assert [event["cursor"] for event in found] == [event["cursor"] for event in found_by_other]
    for id in ids:
        history = [state["id"] for state in (await client.ask("GetTaskRun", id=id))["states"]]
        told = [event["state"]["id"] for event in found if event["taskRun"]["id"] == id]
        assert told == history
    for id in ids:
        mine = [event for event in found if event["taskRun"]["id"] == id]
        types = [event["state"]["type"] for event in mine]
        assert [event["previousStateType"] for event in mine] == [None, *types[:-1]]


# --- what it costs ---


@ON_SQLITE
async def test_a_follower_reads_a_page_when_the_one_before_was_taken_and_nothing_for_each_change(
    server: Serving, client: Client
) -> None:
    await create(client)
    count = 2 * LARGEST_PAGE + 50
    start = await server.life.database.read(present_place)
    await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * count)
    changes = server.life.feed.follow({}, start)

    statements: list[int] = []
    async with server.counting() as asked:
        for _ in range(count):
            await anext(changes)
            statements.append(len(asked))
    await changes.aclose()

    # The last page is not full, so nobody has to look how far behind it is.
    assert statements == [3] * LARGEST_PAGE + [6] * LARGEST_PAGE + [8] * 50


# --- the end ---


async def test_a_stopping_server_completes_the_subscription(server: Serving, client: Client) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("TaskRunStateChanges")
        await asyncio.wait_for(server.clock.idle(1), PATIENCE)

        await asyncio.wait_for(server.life.drain(), PATIENCE)

        assert await socket.receive() == {"id": id, "type": "complete"}


async def test_a_subscription_to_a_stopping_server_is_refused_as_retryable(server: Serving, client: Client) -> None:
    async with client.socket() as socket:
        await server.life.drain()
        await socket.subscribe("TaskRunStateChanges")

        message = await socket.receive()

    assert message["type"] == "error"
    assert message["payload"][0]["extensions"] == {"code": "UNAVAILABLE", "retryable": True}


@pytest.mark.parametrize("by", ["complete", "close", "abort"])
async def test_a_client_that_goes_leaves_nothing_behind(server: Serving, client: Client, by: str) -> None:
    feed = server.life.feed
    async with client.socket() as socket:
        id = await socket.subscribe("TaskRunStateChanges")
        await asyncio.wait_for(server.clock.idle(1), PATIENCE)
        assert len(feed._followers) == 1
        feed._left.clear()

        if by == "complete":
            await socket.send({"id": id, "type": "complete"})
        elif by == "close":
            await socket.connection.close()
        else:
            socket.connection.transport.abort()
        await asyncio.wait_for(feed._left.wait(), PATIENCE)

    assert feed._followers == set()


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database_url=database_url, stop_seconds=1) as server, following(server) as deaf:
        deaf.connection.transport.pause_reading()
        # WebSockets could compress anything less random to nothing.
        inputs = [{"taskKey": "t", "name": random.Random(7).randbytes(1750).hex()}] * 1000  # noqa: S311
        for _ in range(5):
            await server.client.ask("CreateTaskRuns", inputs=inputs)

        await asyncio.wait_for(server.life.drain(), PATIENCE)

        deaf.connection.transport.abort()
