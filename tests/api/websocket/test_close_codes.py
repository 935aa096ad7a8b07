"""The README tells every code with which the server closes a WebSocket, and the server sends each."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.auth.test_authentication import bearer, introduced
from tests.api.websocket.test_websocket_protocol import INIT, closing_of, subscribe
from tests.client import Socket
from tests.delivery.test_half_open_sockets import sockets_left
from tests.serving import Serving, serving

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
LISTEN = 'subscription { scheduledTaskRuns(taskKeys: ["t"]) { leaseId } }'


async def send_no_frame(server: Serving, socket: Socket) -> None:
    socket.connection.transport.write(b"\xff\xff")


async def send_no_text(server: Serving, socket: Socket) -> None:
    await socket.connection.send(b"\xff", text=True)


async def send_too_much(server: Serving, socket: Socket) -> None:
    await socket.connection.send(" " * 301)


async def answer_no_ping(server: Serving, socket: Socket) -> None:
    socket.connection.transport.pause_reading()
    await sockets_left(server, 0)
    socket.connection.transport.resume_reading()


async def stop(server: Serving, socket: Socket) -> None:
    server.server.stop_requested.set()


async def show_a_token_while_the_database_is_away(server: Serving, socket: Socket) -> None:
    token = await bearer(server, "read")
    await server.life.database.close()
    await introduced(socket.connection, token)


async def show_no_token(server: Serving, socket: Socket) -> None:
    await socket.connection.send(INIT)


async def send_nonsense(server: Serving, socket: Socket) -> None:
    await socket.connection.send("[]")


async def begin_without_introduction(server: Serving, socket: Socket) -> None:
    await socket.send(subscribe("{ __typename }"))


async def say_nothing(server: Serving, socket: Socket) -> None:
    pass


async def use_an_id_twice(server: Serving, socket: Socket) -> None:
    for message in ({"type": "connection_init"}, subscribe(LISTEN), subscribe(LISTEN)):
        await socket.send(message)
    assert await socket.receive() == {"type": "connection_ack"}


async def introduce_itself_twice(server: Serving, socket: Socket) -> None:
    await socket.connection.send(INIT)
    await socket.connection.send(INIT)
    assert await socket.receive() == {"type": "connection_ack"}


WAYS: dict[int, tuple[Callable[[Serving, Socket], Awaitable[None]], dict[str, Any]]] = {
    1002: (send_no_frame, {}),
    1007: (send_no_text, {}),
    1009: (send_too_much, {"max_message_bytes": 300}),
    1011: (answer_no_ping, {"ping_seconds": 0.2}),
    1012: (stop, {}),
    1013: (show_a_token_while_the_database_is_away, {"access": "tokens"}),
    4400: (send_nonsense, {}),
    4401: (begin_without_introduction, {}),
    4403: (show_no_token, {"access": "tokens"}),
    4406: (say_nothing, {}),
    4408: (say_nothing, {"connection_init_seconds": 0.05}),
    4409: (use_an_id_twice, {}),
    4429: (introduce_itself_twice, {}),
}
"""How to have a socket closed with each code, and the settings of the server that does it."""


def test_the_readme_tells_every_code() -> None:
    rows = re.findall(r"^\| ((?:\d{4}(?:, )?)+) \|", README, re.MULTILINE)

    assert [int(code) for row in rows for code in row.split(", ")] == list(WAYS)


@pytest.mark.parametrize("code", WAYS)
async def test_each_code_is_sent(tmp_path: Path, code: int) -> None:
    close, settings = WAYS[code]
    subprotocol = "soap" if code == 4406 else "graphql-transport-ws"
    async with serving(tmp_path, **settings) as server, server.client.raw_socket((subprotocol,)) as connection:
        await close(server, Socket(connection))

        found, _ = await closing_of(connection)
    assert found == code
