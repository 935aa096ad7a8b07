"""Attacks: each sends so many examples of something to a server, and looks at every answer.

AssertionError, with the smallest example that does it, as soon as one is answered as no client should be. With a seed the
examples are other ones; without, always the same.
"""

import socket
import struct
from collections.abc import Callable
from typing import Any

import hypothesis
import orjson
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as some
from hypothesis.strategies import SearchStrategy
from websockets.exceptions import ConnectionClosed

from queries import document
from tests.hostile.documents import Operation, in_haste, json_values, numbers, ours, subscriptions, texts
from tests.hostile.generator import Generator
from tests.hostile.target_server import PATIENCE, Victim, ids_in, json_of, look_at

CLOSE_CODES = {1000, 1002, 1003, 1007, 1009, 4400, 4401, 4409, 4429}
"""What a WebSocket may be closed with: by its own protocol, or by graphql-transport-ws."""


CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "APPLICATION/JSON",
    "application/jsonx",
    "",
    ";",
]
CONTENT_TYPES += ["text/plain", "multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "\xff"]


def attack_with_generated(victim: Victim, examples: int, seed: int | None = None) -> Generator:
    """Operations of any shape, over HTTP. What made them tells what they have come by."""
    generator = Generator(ids_in(victim), seed or 0)
    for _ in range(examples):
        query, variables = generator.operation()
        try:
            generator.values.learn(victim.ask(query, variables))
            _is_silent(victim)
        except Exception as error:
            error.add_note(f"It was asked\n{query}\nwith {json_of(variables).decode()}")
            raise
    return generator


def attack_with_ours(victim: Victim, examples: int, seed: int | None = None) -> None:
    """Our documents with any variables, over HTTP."""

    def send(operation: Operation) -> None:
        victim.ask(*in_haste(operation))
        _is_silent(victim)

    _run(ours(ids_in(victim)), send, examples, seed)


def attack_with_requests(victim: Victim, examples: int, seed: int | None = None) -> None:
    """HTTP requests: methods, headers, query strings and bodies of every kind."""

    def send(request: tuple[str, str, bytes | None, dict[str, str]]) -> None:
        status, body = victim.request(*request)
        assert status < 500, body
        if status >= 400 and request[0] != "HEAD":
            look_at(orjson.loads(body))
            victim.answers[str(status)] += 1
        _is_silent(victim)

    _run(_requests(), send, examples, seed)


def attack_with_bytes(victim: Victim, examples: int, seed: int | None = None) -> None:
    """What is no HTTP, or only begins as if it were, and is then cut off."""

    def send(parts: tuple[bytes, bytes]) -> None:
        with victim.connect() as connection:
            connection.sendall(b"".join(parts))
            connection.shutdown(socket.SHUT_WR)
            answered = b""
            try:
                while part := connection.recv(65536):
                    answered += part
            except ConnectionResetError:
                pass  # it had no more patience than that
        assert not answered.startswith(b"HTTP/1.1 5"), answered
        _is_silent(victim)

    beginnings = some.sampled_from(
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
    _run(some.tuples(beginnings, some.binary(max_size=60)), send, examples, seed)


def attack_with_messages(victim: Victim, examples: int, seed: int | None = None) -> None:
    """WebSocket messages of every shape, in every order."""
    known = ids_in(victim)
    operations = ours(known) | subscriptions(known)

    def send(messages: list[Any]) -> None:
        victim.answers["sockets"] += 1
        with victim.web_socket() as connection:
            try:
                for message in messages:
                    connection.send(message if isinstance(message, str | bytes) else json_of(message).decode())
                connection.send('{"type":"subscribe","id":"the last","payload":{"query":"{ __typename }"}}')
                while not _is_the_last(connection.recv(PATIENCE)):
                    continue
            except ConnectionClosed as closed:
                code = closed.rcvd and closed.rcvd.code
                victim.answers[str(code)] += 1
                if code not in CLOSE_CODES:
                    raise AssertionError(f"closed with {closed.rcvd}") from closed
        _is_silent(victim)

    _run(_messages(operations).flatmap(_mostly_opened), send, examples, seed)


def attack_with_frames(victim: Victim, examples: int, seed: int | None = None) -> None:
    """Bytes on a WebSocket that are no frames, or unfinished ones."""

    def send(raw: bytes) -> None:
        with victim.connect() as connection:
            connection.sendall(
                b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
                + raw
            )
            connection.recv(65536)
            # A reset, as when a cable is pulled and the machine behind it starts anew.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _is_silent(victim)

    heads = some.sampled_from(
        [b"", b"\x81\xfe\x00\x7d", b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\x80\0\0\0\0"]
    )
    _run(some.tuples(heads, some.binary(max_size=40)).map(b"".join), send, examples, seed)


def _is_silent(victim: Victim) -> None:
    if complaints := victim.complaints():
        raise AssertionError("".join(complaints))


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


def _is_the_last(received: str | bytes) -> bool:
    """Whether a message ends what was asked last. AssertionError where it is none that a client may get."""
    assert isinstance(received, str), received
    message = orjson.loads(received)
    assert message["type"] in {"connection_ack", "next", "error", "complete", "pong"}, message
    if message["type"] == "next":
        look_at(message["payload"], may_wait=True)
    if message["type"] == "error":
        look_at({"errors": message["payload"]}, may_wait=True)
    return message["type"] == "complete" and message["id"] == "the last"


def _requests() -> SearchStrategy[tuple[str, str, bytes | None, dict[str, str]]]:
    query = some.sampled_from(
        ["{ __typename }", "{ taskRunCount }", "subscription { taskRunStateChanges { cursor } }", "{"]
    )
    body = some.fixed_dictionaries(
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
    raw = some.one_of(
        some.binary(max_size=200),
        json_values.map(json_of),
        body.map(json_of),
        body.map(json_of),
        body.map(lambda value: json_of(value)[:-1]),
        body.map(lambda value: json_of(value).decode().encode("utf-16")),
    )
    types = some.sampled_from(CONTENT_TYPES)
    accepts = some.sampled_from(
        ["", "*/*", "application/graphql-response+json", "application/json;q=0", "a,,;;=", "\xff", "multipart/mixed"]
    )
    headers = some.fixed_dictionaries({"content-type": types}, optional={"accept": accepts, "accept-encoding": accepts})
    pairs = some.lists(
        some.tuples(some.sampled_from(["query", "variables", "extensions", "operationName", "a"]), texts)
    )
    strings = pairs.map(lambda found: "&".join(f"{name}={_quoted(value)}" for name, value in found))
    paths = strings.map(lambda string: f"/graphql?{string}")
    methods = some.sampled_from(["POST"] * 4 + ["GET", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
    return some.tuples(methods, paths, some.none() | raw, headers)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def _messages(operations: SearchStrategy[Operation]) -> SearchStrategy[list[Any]]:
    ids = some.sampled_from(["1", "1", "2", ""]) | texts
    subscribe = some.tuples(ids, operations).map(
        lambda drawn: {
            "id": drawn[0],
            "type": "subscribe",
            "payload": dict(zip(("query", "variables"), in_haste(drawn[1]), strict=True)),
        }
    )
    types = some.sampled_from(
        ["connection_init", "subscribe", "complete", "ping", "pong", "next", "error", "start", ""]
    )
    payload = some.fixed_dictionaries(
        {"query": some.sampled_from([document("GetServer")[0], "{", "", "{ taskRunCount }"]) | json_values},
        optional={"variables": json_values, "operationName": json_values, "extensions": json_values},
    )
    message = some.fixed_dictionaries(
        {"type": types}, optional={"id": ids | json_values, "payload": payload | json_values, "other": json_values}
    )
    complete = ids.map(lambda drawn: {"type": "complete", "id": drawn})
    odd = some.one_of(some.binary(max_size=30), some.text(max_size=30), json_values, numbers)
    ping = some.sampled_from([{"type": "ping"}, {"type": "pong", "payload": {"a": 1}}, {"type": "connection_init"}])
    fair = some.one_of(*[subscribe] * 6, complete, complete, ping)
    # What is unfair closes the socket, so that it comes last.
    return some.tuples(some.lists(fair, max_size=6), some.lists(message | odd, max_size=2)).map(
        lambda drawn: drawn[0] + drawn[1]
    )


def _mostly_opened(messages: list[Any]) -> SearchStrategy[list[Any]]:
    return some.sampled_from([[{"type": "connection_init"}, *messages]] * 5 + [messages])
