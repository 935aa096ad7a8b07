"""The documentation lists every code with which the server closes a WebSocket, and the server sends each."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bearer_tokens import bearer_headers
from tests.client import Socket
from tests.serving import RunningServer, run_server
from tests.websocket_messages import INIT, receive_close, send_connection_init, subscribe_message, wait_for_socket_count

ERRORS_PAGE = (Path(__file__).parents[3] / "docs" / "errors.md").read_text("utf-8")
SUBSCRIPTION = 'subscription { scheduledTaskRuns(taskKeys: ["t"]) { leaseId } }'


async def send_invalid_frame(server: RunningServer, socket: Socket) -> None:
    socket.connection.transport.write(b"\xff\xff")


async def send_invalid_utf8(server: RunningServer, socket: Socket) -> None:
    await socket.connection.send(b"\xff", text=True)


async def send_oversized_message(server: RunningServer, socket: Socket) -> None:
    await socket.connection.send(" " * 301)


async def ignore_pings(server: RunningServer, socket: Socket) -> None:
    socket.connection.transport.pause_reading()
    await wait_for_socket_count(server, 0)
    socket.connection.transport.resume_reading()


async def stop_server(server: RunningServer, socket: Socket) -> None:
    server.server.stop_requested.set()


async def send_token_during_outage(server: RunningServer, socket: Socket) -> None:
    token = await bearer_headers(server, "read")
    await server.services.database.close()
    await send_connection_init(socket.connection, token)


async def send_no_token(server: RunningServer, socket: Socket) -> None:
    await socket.connection.send(INIT)


async def send_malformed_message(server: RunningServer, socket: Socket) -> None:
    await socket.connection.send("[]")


async def subscribe_before_init(server: RunningServer, socket: Socket) -> None:
    await socket.send(subscribe_message("{ __typename }"))


async def do_nothing(server: RunningServer, socket: Socket) -> None:
    pass


async def subscribe_twice_with_one_id(server: RunningServer, socket: Socket) -> None:
    for message in ({"type": "connection_init"}, subscribe_message(SUBSCRIPTION), subscribe_message(SUBSCRIPTION)):
        await socket.send(message)
    assert await socket.receive() == {"type": "connection_ack"}


async def send_init_twice(server: RunningServer, socket: Socket) -> None:
    await socket.connection.send(INIT)
    await socket.connection.send(INIT)
    assert await socket.receive() == {"type": "connection_ack"}


CLOSE_CAUSES: list[tuple[int, Callable[[RunningServer, Socket], Awaitable[None]], dict[str, Any]]] = [
    (1002, send_invalid_frame, {}),
    (1007, send_invalid_utf8, {}),
    (1009, send_oversized_message, {"max_message_bytes": 300}),
    (1012, stop_server, {}),
    (1013, send_token_during_outage, {"access": "tokens"}),
    (1013, ignore_pings, {"ping_seconds": 0.2}),
    (4400, send_malformed_message, {}),
    (4401, subscribe_before_init, {}),
    (4403, send_no_token, {"access": "tokens"}),
    (4406, do_nothing, {}),
    (4408, do_nothing, {"connection_init_seconds": 0.05}),
    (4409, subscribe_twice_with_one_id, {}),
    (4429, send_init_twice, {}),
]
"""Close codes, each with an action that causes it and the server settings that this needs."""


def test_the_documentation_lists_every_close_code() -> None:
    rows = re.findall(r"^\| ((?:\d{4}(?:, )?)+) \|", ERRORS_PAGE, re.MULTILINE)

    codes = [int(code) for row in rows for code in row.split(", ")]
    assert codes == list(dict.fromkeys(code for code, *_ in CLOSE_CAUSES))


@pytest.mark.parametrize(("code", "close", "settings"), CLOSE_CAUSES)
async def test_each_close_code_is_sent(
    tmp_path: Path,
    code: int,
    close: Callable[[RunningServer, Socket], Awaitable[None]],
    settings: dict[str, Any],
) -> None:
    subprotocol = "soap" if code == 4406 else "graphql-transport-ws"
    async with run_server(tmp_path, **settings) as server, server.client.raw_socket((subprotocol,)) as connection:
        await close(server, Socket(connection))

        found, _ = await receive_close(connection)
    assert found == code
