"""graphql-transport-ws: the messages, and the codes with which a socket is closed."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.client import PATIENCE, Client, Socket
from tests.serving import serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


INIT = '{"type": "connection_init"}'
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
LISTEN = 'subscription { scheduledTaskRuns(taskKeys: ["t"]) { leaseId } }'
TWO = "query One { one: __typename } query Two { two: __typename }"


def subscribe(query: object, id: object = "1", **payload: object) -> dict[str, Any]:
    return {"id": id, "type": "subscribe", "payload": {"query": query, **payload}}


async def closing_of(connection: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes the socket. Fails if it says anything before."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(connection.recv(), PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def assert_alive(socket: Socket) -> None:
    """The socket is open, and nothing has been said on it that was not received."""
    await socket.send({"type": "ping"})
    assert await socket.receive() == {"type": "pong"}


# --- opening ---


async def test_an_introduction_is_acknowledged(client: Client) -> None:
    async with client.raw_socket() as connection:
        await connection.send('{"type": "connection_init", "payload": {"token": "x"}}')

        assert await Socket(connection).receive() == {"type": "connection_ack"}
        assert connection.subprotocol == "graphql-transport-ws"


async def test_an_introduction_without_anything_to_say_may_have_a_null_payload(client: Client) -> None:
    async with client.raw_socket() as connection:
        await connection.send('{"type": "connection_init", "payload": null}')

        assert await Socket(connection).receive() == {"type": "connection_ack"}


@pytest.mark.parametrize("payload", ["5", '"x"', "[]", "true"])
async def test_an_introduction_whose_payload_is_no_object_is_closed_with_4400(client: Client, payload: str) -> None:
    async with client.raw_socket() as connection:
        await connection.send(f'{{"type": "connection_init", "payload": {payload}}}')

        assert await closing_of(connection) == (4400, "Invalid connection init payload")


async def test_an_operation_before_the_acknowledgement_is_closed_with_4401_and_not_carried_out(client: Client) -> None:
    async with client.raw_socket() as connection:
        query = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'
        await connection.send(orjson.dumps(subscribe(query)).decode())

        assert await closing_of(connection) == (4401, "Unauthorized")
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 0


@pytest.mark.parametrize("subprotocol", ["graphql-ws", "soap"])
async def test_another_subprotocol_is_closed_with_4406(client: Client, subprotocol: str) -> None:
    async with client.raw_socket((subprotocol,)) as connection:
        assert await closing_of(connection) == (4406, "Subprotocol not acceptable")
        assert connection.subprotocol is None


async def test_no_subprotocol_at_all_is_closed_with_4406(client: Client) -> None:
    address = client.url.replace("http", "ws", 1) + "/graphql"
    async with connect(address, proxy=None) as connection:
        assert await closing_of(connection) == (4406, "Subprotocol not acceptable")


async def test_a_client_that_lists_the_legacy_protocol_first_gets_the_current_one(client: Client) -> None:
    async with client.raw_socket(("graphql-ws", "graphql-transport-ws")) as connection:
        await connection.send(INIT)

        assert await Socket(connection).receive() == {"type": "connection_ack"}
        assert connection.subprotocol == "graphql-transport-ws"


async def test_a_socket_that_does_not_introduce_itself_is_closed_with_4408(tmp_path: Path) -> None:
    async with serving(tmp_path, connection_init_seconds=0.05) as served, served.client.raw_socket() as connection:
        assert await closing_of(connection) == (4408, "Connection initialisation timeout")


async def test_a_socket_that_has_introduced_itself_may_be_silent_for_longer(tmp_path: Path) -> None:
    async with serving(tmp_path, connection_init_seconds=0.05) as served, served.client.socket() as socket:
        async with served.client.raw_socket() as opened_later:
            await closing_of(opened_later)

        await assert_alive(socket)


async def test_a_second_introduction_is_closed_with_4429(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"type": "connection_init"})

        assert await closing_of(socket.connection) == (4429, "Too many initialisation requests")


# --- malformed messages ---

NO_OBJECT = "A message has to be a JSON object."
NO_TYPE = "A message has to have a type."
NO_ID = "The message has to have an id, which is a text."
NO_JSON = "WebSocket message must be valid JSON"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("[]", NO_OBJECT),
        ("5", NO_OBJECT),
        ("null", NO_OBJECT),
        ('"ping"', NO_OBJECT),
        ("", NO_JSON),
        ("{", NO_JSON),
        ("ping", NO_JSON),
        ('{"type": NaN}', NO_JSON),
        (b'{"type": "ping"}', "WebSocket message type must be text"),
        ("{}", NO_TYPE),
        ('{"type": 5}', NO_TYPE),
        ('{"type": ["ping"]}', NO_TYPE),
        ('{"type": "nothing"}', "Unknown message type: nothing"),
        ('{"type": "connection_ack"}', "Unknown message type: connection_ack"),
        ('{"type": "next", "id": "1", "payload": {}}', "Unknown message type: next"),
        ('{"type": "complete"}', NO_ID),
        ('{"type": "complete", "id": 5}', NO_ID),
        (subscribe("{ __typename }", id=5), NO_ID),
        (subscribe("{ __typename }", id=None), NO_ID),
        (subscribe("{ __typename }", id=""), NO_ID),
        ({"type": "subscribe", "payload": {"query": "{ __typename }"}}, NO_ID),
        ({"type": "subscribe", "id": "1"}, "The payload has to be a JSON object."),
        ({"type": "subscribe", "id": "1", "payload": [1]}, "The payload has to be a JSON object."),
        ({"type": "subscribe", "id": "1", "payload": {}}, "The payload's query is missing or of the wrong type."),
        (subscribe(5), "The payload's query is missing or of the wrong type."),
        (subscribe(None), "The payload's query is missing or of the wrong type."),
        (subscribe("{ __typename }", variables=[1]), "The payload's variables is missing or of the wrong type."),
        (subscribe("{ __typename }", variables="x"), "The payload's variables is missing or of the wrong type."),
        (subscribe("{ __typename }", operationName=5), "The payload's operationName is missing or of the wrong type."),
        (subscribe("{ __typename }", extensions=[1]), "The payload's extensions is missing or of the wrong type."),
    ],
)
async def test_a_malformed_message_is_closed_with_4400(
    client: Client, caplog: pytest.LogCaptureFixture, message: str | bytes | dict[str, Any], reason: str
) -> None:
    frame = orjson.dumps(message).decode() if isinstance(message, dict) else message
    async with client.socket() as socket:
        await socket.connection.send(frame)

        assert await closing_of(socket.connection) == (4400, reason)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_malformed_message_closes_no_other_socket(client: Client) -> None:
    async with client.socket() as socket, client.socket() as malformed:
        await malformed.connection.send("[]")
        await closing_of(malformed.connection)

        await assert_alive(socket)


async def test_a_message_that_is_too_large_is_closed_with_1009(tmp_path: Path) -> None:
    async with serving(tmp_path, max_message_bytes=300) as served, served.client.socket() as socket:
        await socket.connection.send(" " * 301)

        code, _ = await closing_of(socket.connection)
    assert code == 1009


async def test_a_message_of_the_largest_size_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, max_message_bytes=300) as served, served.client.socket() as socket:
        await socket.connection.send('{"type": "ping"}'.ljust(300))

        assert await socket.receive() == {"type": "pong"}


# --- operations ---


async def test_a_ping_is_answered_before_and_after_the_introduction(client: Client) -> None:
    async with client.raw_socket() as connection:
        socket = Socket(connection)

        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
        await connection.send(INIT)
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.send({"type": "ping", "payload": {"sent": 1}})
        assert await socket.receive() == {"type": "pong"}


async def test_a_pong_and_the_end_of_what_never_began_are_taken_in_silence(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"type": "pong"})
        await socket.send({"type": "complete", "id": "unknown"})

        await assert_alive(socket)


async def test_a_query_is_one_answer_and_its_end(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe("query Q($first: Int) { taskRuns(first: $first) { totalCount } }", "q"))

        answer = {"id": "q", "type": "next", "payload": {"data": {"taskRuns": {"totalCount": 0}}}}
        assert await socket.receive() == answer
        assert await socket.receive() == {"id": "q", "type": "complete"}


async def test_a_mutation_is_carried_out(client: Client) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})
        payload = await socket.event()
        assert await socket.receive() == {"id": id, "type": "complete"}

    assert payload["created"] is True
    assert (await client.ask("GetTaskRun", id=payload["taskRun"]["id"]))["dynamicKey"] == "1"


async def test_a_refused_mutation_is_an_answer_with_an_error(client: Client) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("DeleteTaskRun", id=NOWHERE)
        answer, complete = await socket.receive(), await socket.receive()

    assert answer["type"] == "next"
    assert answer["payload"]["data"] is None
    assert answer["payload"]["errors"][0]["extensions"] == {"code": "NOT_FOUND"}
    assert complete == {"id": id, "type": "complete"}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"query": "{"}, "Syntax Error: Expected Name, found <EOF>."),
        ({"query": ""}, "There is no query."),
        ({"query": "{ nothing }"}, "Cannot query field 'nothing' on type 'Query'."),
        ({"query": "subscription { nothing }"}, "Cannot query field 'nothing' on type 'Subscription'."),
        ({"query": TWO}, "The document has several operations: say which one with operationName."),
        ({"query": TWO, "operationName": "Three"}, "The document has no operation named 'Three'."),
        (
            {"query": "query Q($id: ID!) { taskRun(id: $id) { id } }"},
            "Variable '$id' has invalid value: Expected a value of non-null type 'ID!' to be provided.",
        ),
    ],
)
async def test_what_can_not_be_run_ends_its_own_operation_and_the_socket_lives_on(
    client: Client, payload: dict[str, Any], message: str
) -> None:
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": payload})

        error = await socket.receive()
        assert (error["id"], error["type"]) == ("1", "error")
        assert [each["message"] for each in error["payload"]] == [message]
        assert error["payload"][0]["extensions"] == {"code": "BAD_USER_INPUT"}
        await assert_alive(socket)


@pytest.mark.parametrize(
    ("wrong", "argument", "message"),
    [
        ({"taskKeys": []}, "taskKeys", "taskKeys: takes from 1 to 100 keys, not 0."),
        ({"taskKeys": ["t"] * 101}, "taskKeys", "taskKeys: takes from 1 to 100 keys, not 101."),
        ({"prefetch": 0}, "prefetch", "prefetch: has to be from 1 to 1,000, not 0."),
        ({"prefetch": 1001}, "prefetch", "prefetch: has to be from 1 to 1,000, not 1001."),
        ({"leaseSeconds": 0.5}, "leaseSeconds", "leaseSeconds: has to be from 1 to 86400 seconds, not 0.5."),
    ],
)
async def test_a_refused_subscription_says_why_and_the_socket_lives_on(
    client: Client, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any], argument: str, message: str
) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("ScheduledTaskRuns", **{"taskKeys": ["t"], **wrong})

        answer = await socket.receive()
        await assert_alive(socket)
    assert (answer["id"], answer["type"]) == (id, "error")
    (error,) = answer["payload"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}
    assert error["message"] == message
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_of_several_operations_the_named_one_is_run(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe(TWO, operationName="Two"))

        assert await socket.receive() == {"id": "1", "type": "next", "payload": {"data": {"two": "Query"}}}


async def test_an_id_in_use_is_closed_with_4409(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe(LISTEN))
        await socket.send(subscribe("{ __typename }"))

        assert await closing_of(socket.connection) == (4409, "Subscriber for 1 already exists")


async def test_an_id_may_be_used_again_when_its_operation_is_over(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe(LISTEN))
        await socket.send({"id": "1", "type": "complete"})
        for _ in range(2):
            await socket.send(subscribe("{ __typename }"))
            assert await socket.receive() == {"id": "1", "type": "next", "payload": {"data": {"__typename": "Query"}}}
            assert await socket.receive() == {"id": "1", "type": "complete"}


async def test_two_sockets_may_use_the_same_id(client: Client) -> None:
    async with client.socket() as one, client.socket() as other:
        await one.send(subscribe(LISTEN))
        await other.send(subscribe(LISTEN))

        await assert_alive(one)
        await assert_alive(other)


async def test_an_operation_too_many_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, max_operations_per_socket=2) as served, served.client.socket() as socket:
        listening = [await socket.subscribe("ScheduledTaskRuns", taskKeys=[key]) for key in "ab"]
        refused = await socket.subscribe("GetServer")

        error = await socket.receive()
        too_many = {
            "message": "This socket has too many operations under way.",
            "extensions": {"code": "BAD_USER_INPUT"},
        }
        assert error == {"id": refused, "type": "error", "payload": [too_many]}
        await served.client.ask("CreateTaskRun", input={"taskKey": "b", "state": {"type": "SCHEDULED"}})
        message = await socket.receive()
        assert (message["id"], len(message["payload"]["data"]["scheduledTaskRuns"])) == (listening[1], 1)


async def test_an_operation_may_take_the_place_of_one_that_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path, max_operations_per_socket=1) as served, served.client.socket() as socket:
        listening = await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"])
        await socket.send({"id": listening, "type": "complete"})

        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"


async def test_what_one_operation_has_read_is_read_afresh_by_the_next(client: Client) -> None:
    flow = await client.ask("CreateFlow", input={"name": "f"})
    created = await client.ask("CreateFlowRun", input={"flowId": flow["flow"]["id"]})
    id = created["flowRun"]["id"]
    histories: list[list[str]] = []

    async with client.socket() as socket:
        for type in ("RUNNING", "COMPLETED"):
            await client.ask("SetFlowRunState", id=id, state={"type": type})
            await socket.subscribe("GetFlowRun", id=id)
            histories.append([state["type"] for state in (await socket.event())["states"]])
            await socket.receive()

    assert histories == [["PENDING", "RUNNING"], ["PENDING", "RUNNING", "COMPLETED"]]


async def test_a_subscription_does_not_hold_up_the_operations_beside_it(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        messages = [await socket.receive() for _ in range(3)]

    by_id = {id: [message for message in messages if message["id"] == id] for id in ("1", "2")}
    created = by_id["2"][0]["payload"]["data"]["createTaskRun"]["taskRun"]
    (delivery,) = by_id["1"][0]["payload"]["data"]["scheduledTaskRuns"]
    assert [message["type"] for message in by_id["2"]] == ["next", "complete"]
    assert delivery["taskRun"]["id"] == created["id"]
