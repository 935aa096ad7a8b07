"""Clients that are slow, dead, or there for the nuisance: each costs little, not for long, and nobody else."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import orjson
import pytest
from websockets.exceptions import ConnectionClosedOK

from tests.hostile.target_server import PATIENCE, Victim, victim

BODY_SECONDS = 1.0
FLOOD = 10_000
"""How many messages; for a longer one, change it here."""
HEAD = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A server with little patience, on SQLite: none of these get as far as the database."""
    path = tmp_path_factory.mktemp("slow") / "runyard.db"
    copyfile(migrated, path)
    with victim(f"sqlite+aiosqlite:///{path}", RUNYARD_BODY_SECONDS=str(BODY_SECONDS)) as started:
        yield started


@pytest.fixture
def attacked(server: Victim) -> Iterator[Victim]:
    """The server, which has to be well afterwards, with no more connections than before."""
    server.is_well()
    files = server.process.num_fds()
    yield server
    server.is_well()
    server.wait_for(lambda: server.process.num_fds() <= files)


def test_a_body_that_is_sent_byte_by_byte_without_end_is_given_up(attacked: Victim) -> None:
    with attacked.connect() as connection:
        connection.sendall(HEAD % 1_000_000)
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(0.05):
                connection.send(b" ")

        sending = threading.Thread(target=trickle)
        sending.start()
        try:
            answer = connection.recv(65536)
        finally:
            over.set()
            sending.join()
        head, _, body = answer.partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 408")
        assert orjson.loads(body or connection.recv(65536))["errors"] == [
            {"message": "The body has to be sent within 1 seconds.", "extensions": {"code": "BAD_USER_INPUT"}}
        ]
        assert connection.recv(65536) == b""


def test_a_body_that_stops_halfway_is_given_up(attacked: Victim) -> None:
    with attacked.connect() as connection:
        connection.sendall(HEAD % 100 + b'{"query": ')

        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_answers_that_nobody_reads_keep_nobody_waiting(attacked: Victim) -> None:
    body = b'{"query": "{ __schema { types { name fields { name description args { name description } } } } }"}'
    greedy = [attacked.connect() for _ in range(20)]
    try:
        for each in greedy:
            each.setblocking(False)
            try:
                for _ in range(50):
                    each.sendall(HEAD % len(body) + body)
            except BlockingIOError:
                pass  # the server reads no more from who takes nothing

        assert attacked.ask("{ __typename }") == {"data": {"__typename": "Query"}}
    finally:
        for each in greedy:
            each.close()


def test_five_hundred_sockets_that_are_dropped_leave_nothing_behind(attacked: Victim) -> None:
    async def open_and_drop() -> None:
        upgrade = (
            b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        opened = [await asyncio.open_connection("127.0.0.1", attacked.port) for _ in range(500)]
        for _, writer in opened:
            writer.write(upgrade)
        for reader, _ in opened:
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        for _, writer in opened:
            writer.transport.abort()

    asyncio.run(open_and_drop())
    before = attacked.memory_mib()
    asyncio.run(open_and_drop())
    attacked.wait_for(lambda: b"\nrunyard_websockets 0.0" in attacked.request("GET", "/metrics", None, {})[1])

    assert attacked.memory_mib() - before < 40


def test_a_flood_of_messages_is_answered_one_by_one_and_leaves_nothing_behind(attacked: Victim) -> None:
    subscribe = '{"type":"subscribe","id":"1","payload":{"query":"subscription { taskRunStateChanges { cursor } }"}}'
    with attacked.web_socket() as connection:
        connection.send('{"type":"connection_init"}')
        assert orjson.loads(connection.recv(PATIENCE)) == {"type": "connection_ack"}
        before = attacked.memory_mib()
        for _ in range(FLOOD // 100):
            for _ in range(25):
                connection.send(subscribe)
                connection.send('{"type":"complete","id":"1"}')
                connection.send('{"type":"ping"}')
                connection.send('{"type":"pong"}')
            for _ in range(25):
                assert orjson.loads(connection.recv(PATIENCE)) == {"type": "pong"}
        after = attacked.memory_mib()
        connection.close()
        with pytest.raises(ConnectionClosedOK):
            connection.recv()
    attacked.wait_for(lambda: b"\nrunyard_subscriptions 0.0" in attacked.request("GET", "/metrics", None, {})[1])

    assert after - before < 40


def test_half_open_connections_do_not_keep_others_out(attacked: Victim) -> None:
    halves: list[socket.socket] = []
    try:
        for _ in range(200):
            halves.append(attacked.connect())
            halves[-1].sendall(b"POST /graphql HTTP/1.1\r\nHost: ")

        assert attacked.ask("{ __typename }") == {"data": {"__typename": "Query"}}
    finally:
        for each in halves:
            each.close()
