"""Slow, dead and abusive clients use few resources for a short time and do not block other clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import orjson
import pytest
from websockets.exceptions import ConnectionClosedOK

from tests.hostile.target_server import TIMEOUT_SECONDS, TargetServer, run_target_server

BODY_SECONDS = 1.0
FLOOD_MESSAGES = 10_000
"""Number of messages; increase it for a longer test."""
REQUEST_HEAD = (
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetServer]:
    """A server with a short body timeout, on SQLite only: these requests never reach the database."""
    path = tmp_path_factory.mktemp("slow") / "runyard.db"
    copyfile(migrated, path)
    with run_target_server(f"sqlite+aiosqlite:///{path}", RUNYARD_BODY_SECONDS=str(BODY_SECONDS)) as started:
        yield started


@pytest.fixture
def target(server: TargetServer) -> Iterator[TargetServer]:
    """The server, which must be healthy after the test with no more open connections than before."""
    server.assert_healthy()
    files = server.process.num_fds()
    yield server
    server.assert_healthy()
    server.wait_for(lambda: server.process.num_fds() <= files)


def test_a_body_sent_byte_by_byte_without_end_times_out(target: TargetServer) -> None:
    with target.connect() as connection:
        connection.sendall(REQUEST_HEAD % 1_000_000)
        stopped = threading.Event()

        def trickle() -> None:
            while not stopped.wait(0.05):
                connection.send(b" ")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            response = connection.recv(65536)
        finally:
            stopped.set()
            sender.join()
        head, _, body = response.partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 408")
        assert orjson.loads(body or connection.recv(65536))["errors"] == [
            {"message": "The body must be sent within 1 seconds.", "extensions": {"code": "BAD_USER_INPUT"}}
        ]
        assert connection.recv(65536) == b""


def test_a_body_that_stops_halfway_times_out(target: TargetServer) -> None:
    with target.connect() as connection:
        connection.sendall(REQUEST_HEAD % 100 + b'{"query": ')

        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_unread_responses_do_not_block_other_clients(target: TargetServer) -> None:
    body = b'{"query": "{ __schema { types { name fields { name description args { name description } } } } }"}'
    connections = [target.connect() for _ in range(20)]
    try:
        for each in connections:
            each.setblocking(False)
            try:
                for _ in range(50):
                    each.sendall(REQUEST_HEAD % len(body) + body)
            except BlockingIOError:
                pass  # The server stops reading from a client that does not read.

        assert target.execute("{ __typename }") == {"data": {"__typename": "Query"}}
    finally:
        for each in connections:
            each.close()


def test_five_hundred_dropped_sockets_leave_no_resources_behind(target: TargetServer) -> None:
    async def open_and_abort() -> None:
        upgrade = (
            b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(500)]
        for _, writer in opened:
            writer.write(upgrade)
        for reader, _ in opened:
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        for _, writer in opened:
            writer.transport.abort()

    asyncio.run(open_and_abort())
    before = target.memory_mib()
    asyncio.run(open_and_abort())
    target.wait_for(lambda: b"\nrunyard_websockets 0.0" in target.request("GET", "/metrics", None, {})[1])

    assert target.memory_mib() - before < 40


def test_a_flood_of_messages_gets_responses_and_leaves_no_resources_behind(target: TargetServer) -> None:
    subscribe = '{"type":"subscribe","id":"1","payload":{"query":"subscription { taskRunStateChanges { cursor } }"}}'
    with target.web_socket() as connection:
        connection.send('{"type":"connection_init"}')
        assert orjson.loads(connection.recv(TIMEOUT_SECONDS)) == {"type": "connection_ack"}
        before = target.memory_mib()
        for _ in range(FLOOD_MESSAGES // 100):
            for _ in range(25):
                connection.send(subscribe)
                connection.send('{"type":"complete","id":"1"}')
                connection.send('{"type":"ping"}')
                connection.send('{"type":"pong"}')
            for _ in range(25):
                assert orjson.loads(connection.recv(TIMEOUT_SECONDS)) == {"type": "pong"}
        after = target.memory_mib()
        connection.close()
        with pytest.raises(ConnectionClosedOK):
            connection.recv()
    target.wait_for(lambda: b"\nrunyard_subscriptions 0.0" in target.request("GET", "/metrics", None, {})[1])

    assert after - before < 40


def test_half_open_connections_do_not_block_other_clients(target: TargetServer) -> None:
    connections: list[socket.socket] = []
    try:
        for _ in range(200):
            connections.append(target.connect())
            connections[-1].sendall(b"POST /graphql HTTP/1.1\r\nHost: ")

        assert target.execute("{ __typename }") == {"data": {"__typename": "Query"}}
    finally:
        for each in connections:
            each.close()
