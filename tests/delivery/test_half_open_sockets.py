"""A worker whose machine or network is gone leaves a socket that says nothing: the server asks, and takes its runs back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from queries import document
from tests.client import PATIENCE, Client
from tests.delivery.create import create_many, lease_ids, run_ids
from tests.serving import ON_SQLITE, serving, settings_for


class SilentPeer:
    """The other end of a WebSocket that only sends what it is told to: it answers no ping, and no close."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = ClientProtocol(parse_uri(url), subprotocols=["graphql-transport-ws"])  # type: ignore[list-item]
        self._protocol.send_request(self._protocol.connect())
        self._frames: list[Frame] = []
        self._flush()

    async def is_upgraded(self) -> None:
        """Return when the server has answered the request for the upgrade."""
        self._protocol.receive_data(await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE))
        assert self._protocol.handshake_exc is None
        self._protocol.events_received()

    async def send(self, message: object) -> None:
        self._protocol.send_text(orjson.dumps(message))
        self._flush()

    async def answer(self, ping: Frame) -> None:
        self._protocol.send_pong(ping.data)
        self._flush()

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        return orjson.loads((await self.frame(Opcode.TEXT)).data)

    async def frame(self, opcode: Opcode) -> Frame:
        """The next frame of this kind; others are passed over, and not answered."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if frame.opcode is opcode:
                        return frame
                data = await self._reader.read(65536)
                assert data, "the socket was closed"
                self._protocol.receive_data(data)
                self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
                # What the protocol would answer is thrown away.
                self._protocol.data_to_send()

    async def is_cut_off(self) -> bool:
        """Whether the server ends the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read() == b""

    def _flush(self) -> None:
        self._writer.writelines(self._protocol.data_to_send())


@asynccontextmanager
async def silent_peer(client: Client) -> AsyncIterator[SilentPeer]:
    """One that was acknowledged."""
    url = client.url.replace("http", "ws", 1) + "/graphql"
    host, port = client.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        peer = SilentPeer(reader, writer, url)
        await peer.is_upgraded()
        await peer.send({"type": "connection_init"})
        assert await peer.receive() == {"type": "connection_ack"}
        yield peer
    finally:
        writer.close()


async def test_what_it_was_delivered_comes_back_long_before_the_time_to_acknowledge_is_up(
    database_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url=database_url, ping_seconds=0.2) as server:
        client = server.client
        ids = await create_many(client, 2)
        async with silent_peer(client) as peer:
            variables = {"taskKeys": ["t"], "prefetch": 2}
            payload = {"query": document("ScheduledTaskRuns")[0], "variables": variables}
            await peer.send({"id": "1", "type": "subscribe", "payload": payload})
            first = []
            while len(first) < 2:
                first += (await peer.receive())["payload"]["data"]["scheduledTaskRuns"]

            # The clock by which deliveries run out stands still.
            again = [await client.ask("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60) for _ in ids]

            closing = await peer.frame(Opcode.CLOSE)
            assert await peer.is_cut_off()
        async with asyncio.timeout(PATIENCE):
            while server.app.state.meter.sockets:
                await client.http.get("/healthz")
        results = await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(first))

    assert run_ids([each for (each,) in again]) == run_ids(first) == ids
    assert [each["attempt"] for (each,) in again] == [2, 2]
    assert closing.data == (1011).to_bytes(2, "big") + b"keepalive ping timeout"
    assert [result["status"] for result in results] == ["LOST", "LOST"]


@ON_SQLITE
async def test_a_peer_that_answers_is_left_alone(database_url: str, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, database_url=database_url, ping_seconds=1) as server,
        silent_peer(server.client) as peer,
    ):
        for _ in range(2):
            ping = await peer.frame(Opcode.PING)
            await peer.answer(ping)

        await peer.send({"type": "ping"})
        assert await peer.receive() == {"type": "pong"}


def test_it_takes_less_than_the_time_to_acknowledge_unless_an_operator_says_otherwise(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    assert (2 * settings.ping_seconds, settings.acknowledge_seconds) == (20, 30)
