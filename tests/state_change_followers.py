"""Helpers that subscribe to task run state changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tests.client import TIMEOUT_SECONDS, Client, Socket
from tests.serving import RunningServer

Event = dict[str, Any]


@asynccontextmanager
async def follow_state_changes(server: RunningServer, count: int = 1, **variables: Any) -> AsyncIterator[Socket]:
    """Subscribe and wait until `count` subscriptions, this one included, have read all existing changes."""
    async with server.client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", **variables)
        await asyncio.wait_for(server.clock.wait_until_idle(count), TIMEOUT_SECONDS)
        yield socket


async def receive_events(socket: Socket, count: int) -> list[Event]:
    """Receive the next `count` events."""
    return [await socket.event() for _ in range(count)]


def states_of(events: Sequence[Event]) -> list[tuple[str, str]]:
    """Return the run id and the state type of each event."""
    return [(event["taskRun"]["id"], event["state"]["type"]) for event in events]


async def force_random_states(client: Client, ids: Sequence[str], types: Sequence[str], chance: Random) -> int:
    """Set each of these states for three of the runs in one request, and return the number of created states."""
    created = 0
    for type in types:
        inputs = [{"taskRunId": id, "state": {"type": type}, "force": True} for id in chance.sample(ids, 3)]
        created += sum(
            row["result"]["stateCreated"]
            for row in (await client.execute("SetTaskRunStates", inputs=inputs))["results"]
        )
    return created
