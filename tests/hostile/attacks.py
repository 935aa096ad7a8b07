"""Attacks: each sends a number of generated examples to a server and checks every response.

An attack raises AssertionError at the first invalid response. Without a seed, the examples are always the same.
"""

import socket
import struct
from collections.abc import Callable
from typing import Any

import hypothesis
import orjson
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from websockets.exceptions import ConnectionClosed

from queries import document
from tests.hostile.documents import (
    Operation,
    json_values,
    numbers,
    queries_and_mutations,
    subscriptions,
    texts,
    with_short_wait,
)
from tests.hostile.generator import Generator
from tests.hostile.target_server import TIMEOUT_SECONDS, TargetServer, check_response, create_entities, encode_json

CLOSE_CODES = {1000, 1002, 1003, 1007, 1009, 4400, 4401, 4409, 4429}
"""Close codes that a client may receive: of the WebSocket protocol and of graphql-transport-ws."""


CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "APPLICATION/JSON",
    "application/jsonx",
    "",
    ";",
]
CONTENT_TYPES += ["text/plain", "multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "\xff"]


def attack_with_generated(target: TargetServer, examples: int, seed: int | None = None) -> Generator:
    """Send operations of any shape over HTTP. Return the generator, which knows the schema coverage."""
    generator = Generator(create_entities(target), seed or 0)
    for _ in range(examples):
        query, variables = generator.operation()
        try:
            generator.values.learn(target.execute(query, variables))
            _assert_no_warnings(target)
        except Exception as error:
            error.add_note(f"Document:\n{query}\nVariables: {encode_json(variables).decode()}")
            raise
    return generator


def attack_with_documents(target: TargetServer, examples: int, seed: int | None = None) -> None:
    """Send the documents of `queries/` with any variables over HTTP."""

    def send(operation: Operation) -> None:
        target.execute(*with_short_wait(operation))
        _assert_no_warnings(target)

    _run(queries_and_mutations(create_entities(target)), send, examples, seed)


def attack_with_requests(target: TargetServer, examples: int, seed: int | None = None) -> None:
    """Send HTTP requests with methods, headers, query strings and bodies of every kind."""

    def send(request: tuple[str, str, bytes | None, dict[str, str]]) -> None:
        status, body = target.request(*request)
        assert status < 500, body
        if status >= 400 and request[0] != "HEAD":
            check_response(orjson.loads(body))
            target.outcomes[str(status)] += 1
        _assert_no_warnings(target)

    _run(_requests(), send, examples, seed)


def attack_with_bytes(target: TargetServer, examples: int, seed: int | None = None) -> None:
    """Send bytes that are not HTTP, or that start like HTTP and are then cut off."""

    def send(parts: tuple[bytes, bytes]) -> None:
        with target.connect() as connection:
            connection.sendall(b"".join(parts))
            connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except ConnectionResetError:
                pass  # The server may close the connection early.
        assert not received.startswith(b"HTTP/1.1 5"), received
        _assert_no_warnings(target)

    prefixes = st.sampled_from(
        [
            b"",
            b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n",
            b"POST /graphql HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET /graphql?query={__typename} HTTP/1.1\r\n",
            b"GET /graphql HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01",
        ]
    )
    _run(st.tuples(prefixes, st.binary(max_size=60)), send, examples, seed)


def attack_with_messages(target: TargetServer, examples: int, seed: int | None = None) -> None:
    """Send WebSocket messages of every shape in every order."""
    known = create_entities(target)
    operations = queries_and_mutations(known) | subscriptions(known)

    def send(messages: list[Any]) -> None:
        target.outcomes["sockets"] += 1
        with target.web_socket() as connection:
            try:
                for message in messages:
                    connection.send(message if isinstance(message, str | bytes) else encode_json(message).decode())
                connection.send('{"type":"subscribe","id":"last","payload":{"query":"{ __typename }"}}')
                while not _completes_last_operation(connection.recv(TIMEOUT_SECONDS)):
                    continue
            except ConnectionClosed as closed:
                code = closed.rcvd and closed.rcvd.code
                target.outcomes[str(code)] += 1
                if code not in CLOSE_CODES:
                    raise AssertionError(f"closed with {closed.rcvd}") from closed
        _assert_no_warnings(target)

    _run(_messages(operations).flatmap(_mostly_initialised), send, examples, seed)


def attack_with_frames(target: TargetServer, examples: int, seed: int | None = None) -> None:
    """Send bytes over a WebSocket that are not frames, or incomplete frames."""

    def send(raw: bytes) -> None:
        with target.connect() as connection:
            connection.sendall(
                b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
                + raw
            )
            connection.recv(65536)
            # Close with a TCP reset, like a client machine that restarts.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _assert_no_warnings(target)

    prefixes = st.sampled_from(
        [b"", b"\x81\xfe\x00\x7d", b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\x80\0\0\0\0"]
    )
    _run(st.tuples(prefixes, st.binary(max_size=40)).map(b"".join), send, examples, seed)


def _assert_no_warnings(target: TargetServer) -> None:
    if warnings := target.read_warnings():
        raise AssertionError("".join(warnings))


def _run(strategy: SearchStrategy[Any], send: Callable[[Any], None], examples: int, seed: int | None) -> None:
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def attack(example: Any) -> None:
        send(example)

    if seed is not None:
        attack = hypothesis.seed(seed)(attack)
    attack()


def _completes_last_operation(received: str | bytes) -> bool:
    """Check that a client may receive this message, and return whether it completes the last operation."""
    assert isinstance(received, str), received
    message = orjson.loads(received)
    assert message["type"] in {"connection_ack", "next", "error", "complete", "pong"}, message
    if message["type"] == "next":
        check_response(message["payload"], may_wait=True)
    if message["type"] == "error":
        check_response({"errors": message["payload"]}, may_wait=True)
    return message["type"] == "complete" and message["id"] == "last"


def _requests() -> SearchStrategy[tuple[str, str, bytes | None, dict[str, str]]]:
    query = st.sampled_from(
        ["{ __typename }", "{ taskRunCount }", "subscription { taskRunStateChanges { cursor } }", "{"]
    )
    body = st.fixed_dictionaries(
        {},
        optional={
            "query": query | json_values,
            "variables": json_values,
            "operationName": json_values,
            "extensions": json_values,
            "documentId": json_values,
            "id": json_values,
        },
    )
    raw = st.one_of(
        st.binary(max_size=200),
        json_values.map(encode_json),
        body.map(encode_json),
        body.map(encode_json),
        body.map(lambda value: encode_json(value)[:-1]),
        body.map(lambda value: encode_json(value).decode().encode("utf-16")),
    )
    types = st.sampled_from(CONTENT_TYPES)
    accepts = st.sampled_from(
        ["", "*/*", "application/graphql-response+json", "application/json;q=0", "a,,;;=", "\xff", "multipart/mixed"]
    )
    headers = st.fixed_dictionaries({"content-type": types}, optional={"accept": accepts, "accept-encoding": accepts})
    pairs = st.lists(st.tuples(st.sampled_from(["query", "variables", "extensions", "operationName", "a"]), texts))
    strings = pairs.map(lambda found: "&".join(f"{name}={_quoted(value)}" for name, value in found))
    paths = strings.map(lambda string: f"/graphql?{string}")
    methods = st.sampled_from(["POST"] * 4 + ["GET", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
    return st.tuples(methods, paths, st.none() | raw, headers)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def _messages(operations: SearchStrategy[Operation]) -> SearchStrategy[list[Any]]:
    ids = st.sampled_from(["1", "1", "2", ""]) | texts
    subscribe = st.tuples(ids, operations).map(
        lambda drawn: {
            "id": drawn[0],
            "type": "subscribe",
            "payload": dict(zip(("query", "variables"), with_short_wait(drawn[1]), strict=True)),
        }
    )
    types = st.sampled_from(["connection_init", "subscribe", "complete", "ping", "pong", "next", "error", "start", ""])
    payload = st.fixed_dictionaries(
        {"query": st.sampled_from([document("GetServer")[0], "{", "", "{ taskRunCount }"]) | json_values},
        optional={"variables": json_values, "operationName": json_values, "extensions": json_values},
    )
    message = st.fixed_dictionaries(
        {"type": types}, optional={"id": ids | json_values, "payload": payload | json_values, "other": json_values}
    )
    complete = ids.map(lambda drawn: {"type": "complete", "id": drawn})
    invalid = st.one_of(st.binary(max_size=30), st.text(max_size=30), json_values, numbers)
    ping = st.sampled_from([{"type": "ping"}, {"type": "pong", "payload": {"a": 1}}, {"type": "connection_init"}])
    valid = st.one_of(*[subscribe] * 6, complete, complete, ping)
    # Invalid messages come last because they close the socket.
    return st.tuples(st.lists(valid, max_size=6), st.lists(message | invalid, max_size=2)).map(
        lambda drawn: drawn[0] + drawn[1]
    )


def _mostly_initialised(messages: list[Any]) -> SearchStrategy[list[Any]]:
    return st.sampled_from([[{"type": "connection_init"}, *messages]] * 5 + [messages])
