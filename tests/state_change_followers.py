"""Followers of the feed of state changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.client import PATIENCE, Client, Socket
from tests.serving import Serving

Event = dict[str, Any]


@asynccontextmanager
async def following(server: Serving, count: int = 1, **variables: Any) -> AsyncIterator[Socket]:
    """A socket with a subscription to the feed that has read all there is, as have `count` of them by now."""
    async with server.client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", **variables)
        await asyncio.wait_for(server.clock.idle(count), PATIENCE)
        yield socket


async def events(socket: Socket, count: int) -> list[Event]:
    """The next `count` events."""
    return [await socket.event() for _ in range(count)]


def states_of(events: Sequence[Event]) -> list[tuple[str, str]]:
    """The run and the type of state of each event."""
    return [(event["taskRun"]["id"], event["state"]["type"]) for event in events]


async def create(client: Client, **fields: Any) -> str:
    """The id of a new run, PENDING."""
    return (await client.ask("CreateTaskRun", input={"taskKey": "t", **fields}))["taskRun"]["id"]


async def move(client: Client, id: str, *types: str) -> None:
    """Give the run these states, whatever the rules say."""
    for type in types:
        outcome = await client.ask("SetTaskRunState", id=id, state={"type": type}, force=True)
        assert outcome["created"]
