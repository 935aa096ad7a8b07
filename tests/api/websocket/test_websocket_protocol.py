"""graphql-transport-ws: messages and close codes."""

import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect

from tests.builders.api_runs import create_flow_run
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client, Socket
from tests.serving import SQLITE_ONLY, run_server
from tests.websocket_messages import INIT, assert_alive, receive_close, subscribe_message

pytestmark = SQLITE_ONLY

SUBSCRIPTION = 'subscription { scheduledTaskRuns(taskKeys: ["t"]) { leaseId } }'
TWO = "query One { one: __typename } query Two { two: __typename }"


async def test_connection_init_is_acknowledged(client: Client) -> None:
    async with client.raw_socket() as connection:
        await connection.send('{"type": "connection_init", "payload": {"token": "x"}}')

        assert await Socket(connection).receive() == {"type": "connection_ack"}
        assert connection.subprotocol == "graphql-transport-ws"


async def test_connection_init_may_have_a_null_payload(client: Client) -> None:
    async with client.raw_socket() as connection:
        await connection.send('{"type": "connection_init", "payload": null}')

        assert await Socket(connection).receive() == {"type": "connection_ack"}


@pytest.mark.parametrize("payload", ["5", '"x"', "[]", "true"])
async def test_a_connection_init_payload_that_is_no_object_closes_with_4400(client: Client, payload: str) -> None:
    async with client.raw_socket() as connection:
        await connection.send(f'{{"type": "connection_init", "payload": {payload}}}')

        assert await receive_close(connection) == (4400, "Invalid connection init payload")


async def test_an_operation_before_connection_init_closes_with_4401_without_effect(client: Client) -> None:
    async with client.raw_socket() as connection:
        query = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'
        await connection.send(orjson.dumps(subscribe_message(query)).decode())

        assert await receive_close(connection) == (4401, "Unauthorized")
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


@pytest.mark.parametrize("subprotocol", ["graphql-ws", "soap"])
async def test_an_unsupported_subprotocol_is_closed_with_4406(client: Client, subprotocol: str) -> None:
    async with client.raw_socket((subprotocol,)) as connection:
        assert await receive_close(connection) == (4406, "Subprotocol not acceptable")
        assert connection.subprotocol is None


async def test_a_missing_subprotocol_is_closed_with_4406(client: Client) -> None:
    address = client.url.replace("http", "ws", 1) + "/graphql"
    async with connect(address, proxy=None) as connection:
        assert await receive_close(connection) == (4406, "Subprotocol not acceptable")


async def test_a_client_that_lists_the_legacy_protocol_first_gets_the_current_one(client: Client) -> None:
    async with client.raw_socket(("graphql-ws", "graphql-transport-ws")) as connection:
        await connection.send(INIT)

        assert await Socket(connection).receive() == {"type": "connection_ack"}
        assert connection.subprotocol == "graphql-transport-ws"


async def test_a_socket_without_connection_init_is_closed_with_4408(tmp_path: Path) -> None:
    async with run_server(tmp_path, connection_init_seconds=0.05) as server, server.client.raw_socket() as connection:
        assert await receive_close(connection) == (4408, "Connection initialisation timeout")


async def test_an_acknowledged_socket_may_stay_idle_past_the_init_timeout(tmp_path: Path) -> None:
    async with run_server(tmp_path, connection_init_seconds=0.05) as server, server.client.socket() as socket:
        async with server.client.raw_socket() as opened_later:
            await receive_close(opened_later)

        await assert_alive(socket)


async def test_a_second_connection_init_is_closed_with_4429(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"type": "connection_init"})

        assert await receive_close(socket.connection) == (4429, "Too many initialisation requests")


NOT_AN_OBJECT = "The message must be a JSON object."
MISSING_TYPE = "The message must have a type."
MISSING_ID = "The message must have an id, which is a non-empty string."
INVALID_JSON = "WebSocket message must be valid JSON"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("[]", NOT_AN_OBJECT),
        ("5", NOT_AN_OBJECT),
        ("null", NOT_AN_OBJECT),
        ('"ping"', NOT_AN_OBJECT),
        ("", INVALID_JSON),
        ("{", INVALID_JSON),
        ("ping", INVALID_JSON),
        ('{"type": NaN}', INVALID_JSON),
        (b'{"type": "ping"}', "WebSocket message type must be text"),
        ("{}", MISSING_TYPE),
        ('{"type": 5}', MISSING_TYPE),
        ('{"type": ["ping"]}', MISSING_TYPE),
        ('{"type": "nothing"}', "Unknown message type: nothing"),
        ('{"type": "connection_ack"}', "Unknown message type: connection_ack"),
        ('{"type": "next", "id": "1", "payload": {}}', "Unknown message type: next"),
        ('{"type": "complete"}', MISSING_ID),
        ('{"type": "complete", "id": 5}', MISSING_ID),
        (subscribe_message("{ __typename }", id=5), MISSING_ID),
        (subscribe_message("{ __typename }", id=None), MISSING_ID),
        (subscribe_message("{ __typename }", id=""), MISSING_ID),
        ({"type": "subscribe", "payload": {"query": "{ __typename }"}}, MISSING_ID),
        ({"type": "subscribe", "id": "1"}, "The payload must be a JSON object."),
        ({"type": "subscribe", "id": "1", "payload": [1]}, "The payload must be a JSON object."),
        ({"type": "subscribe", "id": "1", "payload": {}}, "The payload's query is missing or has the wrong type."),
        (subscribe_message(5), "The payload's query is missing or has the wrong type."),
        (subscribe_message(None), "The payload's query is missing or has the wrong type."),
        (
            subscribe_message("{ __typename }", variables=[1]),
            "The payload's variables is missing or has the wrong type.",
        ),
        (
            subscribe_message("{ __typename }", variables="x"),
            "The payload's variables is missing or has the wrong type.",
        ),
        (
            subscribe_message("{ __typename }", operationName=5),
            "The payload's operationName is missing or has the wrong type.",
        ),
        (
            subscribe_message("{ __typename }", extensions=[1]),
            "The payload's extensions is missing or has the wrong type.",
        ),
    ],
)
async def test_a_malformed_message_is_closed_with_4400(
    client: Client, caplog: pytest.LogCaptureFixture, message: str | bytes | dict[str, Any], reason: str
) -> None:
    frame = orjson.dumps(message).decode() if isinstance(message, dict) else message
    async with client.socket() as socket:
        await socket.connection.send(frame)

        assert await receive_close(socket.connection) == (4400, reason)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_malformed_message_closes_no_other_socket(client: Client) -> None:
    async with client.socket() as socket, client.socket() as malformed:
        await malformed.connection.send("[]")
        await receive_close(malformed.connection)

        await assert_alive(socket)


async def test_an_oversized_message_is_closed_with_1009(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_message_bytes=300) as server, server.client.socket() as socket:
        await socket.connection.send(" " * 301)

        code, _ = await receive_close(socket.connection)
    assert code == 1009


async def test_a_message_of_the_maximum_size_is_accepted(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_message_bytes=300) as server, server.client.socket() as socket:
        await socket.connection.send('{"type": "ping"}'.ljust(300))

        assert await socket.receive() == {"type": "pong"}


async def test_a_ping_gets_a_pong_before_and_after_connection_init(client: Client) -> None:
    async with client.raw_socket() as connection:
        socket = Socket(connection)

        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
        await connection.send(INIT)
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.send({"type": "ping", "payload": {"sent": 1}})
        assert await socket.receive() == {"type": "pong"}


async def test_a_pong_and_an_unknown_complete_are_ignored(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"type": "pong"})
        await socket.send({"type": "complete", "id": "unknown"})

        await assert_alive(socket)


async def test_a_query_sends_one_next_and_one_complete(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe_message("query Q($first: Int) { taskRuns(first: $first) { totalCount } }", "q"))

        result = {"id": "q", "type": "next", "payload": {"data": {"taskRuns": {"totalCount": 0}}}}
        assert await socket.receive() == result
        assert await socket.receive() == {"id": "q", "type": "complete"}


async def test_a_mutation_is_executed(client: Client) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})
        payload = await socket.event()
        assert await socket.receive() == {"id": id, "type": "complete"}

    assert payload["created"] is True
    assert (await client.execute("GetTaskRun", id=payload["taskRun"]["id"]))["dynamicKey"] == "1"


async def test_a_refused_mutation_sends_next_with_an_error(client: Client) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("DeleteTaskRun", id=UNKNOWN_ID)
        result, complete = await socket.receive(), await socket.receive()

    assert result["type"] == "next"
    assert result["payload"]["data"] == {"deleteTaskRun": None}
    assert result["payload"]["errors"][0]["extensions"] == {"code": "NOT_FOUND", "argument": "id"}
    assert complete == {"id": id, "type": "complete"}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"query": "{"}, "Syntax Error: Expected Name, found <EOF>."),
        ({"query": ""}, "The request has no query. Send a GraphQL document in `query`."),
        ({"query": "{ nothing }"}, "Cannot query field 'nothing' on type 'Query'."),
        ({"query": "subscription { nothing }"}, "Cannot query field 'nothing' on type 'Subscription'."),
        ({"query": TWO}, "The document has several operations. Select one with `operationName`."),
        ({"query": TWO, "operationName": "Three"}, "The document has no operation named 'Three'."),
        (
            {"query": "query Q($id: ID!) { taskRun(id: $id) { id } }"},
            "Variable '$id' has invalid value: Expected a value of non-null type 'ID!' to be provided.",
        ),
    ],
)
async def test_an_invalid_operation_fails_alone_and_the_socket_stays_open(
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
        ({"taskKeys": []}, "taskKeys", "taskKeys: must have between 1 and 1,000 keys; got 0."),
        ({"taskKeys": ["t"] * 1001}, "taskKeys", "taskKeys: must have at most 1,000 items; got 1,001."),
        ({"prefetch": 0}, "prefetch", "prefetch: must be between 1 and 1,000; got 0."),
        ({"prefetch": 1001}, "prefetch", "prefetch: must be between 1 and 1,000; got 1,001."),
        ({"leaseSeconds": 0.5}, "leaseSeconds", "leaseSeconds: must be between 1 and 86,400 seconds; got 0.5."),
    ],
)
async def test_a_refused_subscription_has_a_reason_and_the_socket_stays_open(
    client: Client, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any], argument: str, message: str
) -> None:
    async with client.socket() as socket:
        id = await socket.subscribe("ScheduledTaskRuns", **{"taskKeys": ["t"], **wrong})

        result = await socket.receive()
        await assert_alive(socket)
    assert (result["id"], result["type"]) == (id, "error")
    (error,) = result["payload"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}
    assert error["message"] == message
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_named_operation_of_several_is_executed(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe_message(TWO, operationName="Two"))

        assert await socket.receive() == {"id": "1", "type": "next", "payload": {"data": {"two": "Query"}}}


async def test_subscribing_with_an_id_in_use_closes_with_4409(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe_message(SUBSCRIPTION))
        await socket.send(subscribe_message("{ __typename }"))

        assert await receive_close(socket.connection) == (4409, "Subscriber for 1 already exists")


async def test_an_id_may_be_reused_after_its_operation_completes(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send(subscribe_message(SUBSCRIPTION))
        await socket.send({"id": "1", "type": "complete"})
        for _ in range(2):
            await socket.send(subscribe_message("{ __typename }"))
            assert await socket.receive() == {"id": "1", "type": "next", "payload": {"data": {"__typename": "Query"}}}
            assert await socket.receive() == {"id": "1", "type": "complete"}


async def test_two_sockets_may_use_the_same_id(client: Client) -> None:
    async with client.socket() as one, client.socket() as other:
        await one.send(subscribe_message(SUBSCRIPTION))
        await other.send(subscribe_message(SUBSCRIPTION))

        await assert_alive(one)
        await assert_alive(other)


async def test_an_operation_over_the_limit_is_refused_and_the_others_continue(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_operations_per_socket=2) as server, server.client.socket() as socket:
        subscriptions = [await socket.subscribe("ScheduledTaskRuns", taskKeys=[key]) for key in "ab"]
        refused = await socket.subscribe("GetServer")

        error = await socket.receive()
        too_many = {
            "message": "The connection has reached its limit of 2 concurrent operations.",
            "extensions": {"code": "BAD_USER_INPUT"},
        }
        assert error == {"id": refused, "type": "error", "payload": [too_many]}
        await server.client.execute("CreateTaskRun", input={"taskKey": "b", "state": {"type": "SCHEDULED"}})
        message = await socket.receive()
        assert (message["id"], len(message["payload"]["data"]["scheduledTaskRuns"])) == (subscriptions[1], 1)


async def test_a_completed_operation_no_longer_counts_towards_the_limit(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_operations_per_socket=1) as server, server.client.socket() as socket:
        subscriptions = await socket.subscribe("ScheduledTaskRuns", taskKeys=["a"])
        await socket.send({"id": subscriptions, "type": "complete"})

        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"


async def test_each_operation_on_a_socket_reads_fresh_data(client: Client) -> None:
    id = await create_flow_run(client)
    histories: list[list[str]] = []

    async with client.socket() as socket:
        for type in ("RUNNING", "COMPLETED"):
            await client.execute("SetFlowRunState", id=id, state={"type": type})
            await socket.subscribe("GetFlowRun", id=id)
            histories.append([state["type"] for state in (await socket.event())["states"]])
            await socket.receive()

    assert histories == [["PENDING", "RUNNING"], ["PENDING", "RUNNING", "COMPLETED"]]


async def test_a_subscription_does_not_block_other_operations(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        messages = [await socket.receive() for _ in range(3)]

    by_id = {id: [message for message in messages if message["id"] == id] for id in ("1", "2")}
    created = by_id["2"][0]["payload"]["data"]["createTaskRun"]["taskRun"]
    (delivery,) = by_id["1"][0]["payload"]["data"]["scheduledTaskRuns"]
    assert [message["type"] for message in by_id["2"]] == ["next", "complete"]
    assert delivery["taskRun"]["id"] == created["id"]
