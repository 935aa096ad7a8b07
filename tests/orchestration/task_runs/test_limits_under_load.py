"""A concurrency limit holds under many clients at once, and leaves nothing behind."""

import asyncio
from typing import Any

from tests.client import Client
from tests.serving import ServerProcess

CLIENTS = 8
RUNS = 80
LIMIT = 2


async def test_never_more_runs_than_the_limit_are_running_and_no_slot_is_left(server_process: ServerProcess) -> None:
    client = await server_process.start()
    await client.ask("CreateConcurrencyLimit", tag="db", limit=LIMIT)
    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "tags": ["db", "other"]}] * RUNS)
    ids = [payload["taskRun"]["id"] for payload in payloads]
    waiting = list(ids)
    told: list[str] = []

    async def work() -> None:
        async with Client(server_process.url).http as http:
            mine = Client(server_process.url)
            mine.http = http
            while waiting:
                id = waiting.pop()
                while (status := await propose(mine, id, "RUNNING")) == "WAIT":
                    told.append(status)
                assert status == "ACCEPT"
                assert await propose(mine, id, "COMPLETED") == "ACCEPT"

    await asyncio.gather(*(work() for _ in range(CLIENTS)))

    runs = [await client.ask("GetTaskRun", id=id) for id in ids]
    assert {run["stateType"] for run in runs} == {"COMPLETED"}
    assert most_at_once(runs) == LIMIT
    assert told
    assert (await client.ask("GetConcurrencyLimit", tag="db"))["activeSlots"] == []


async def propose(client: Client, id: str, type: str) -> str:
    return (await client.ask("SetTaskRunState", id=id, state={"type": type}))["status"]


def most_at_once(runs: list[dict[str, Any]]) -> int:
    """How many of the runs were RUNNING at one moment, by their histories."""
    changes: list[tuple[str, int]] = []
    for run in runs:
        times = {state["type"]: state["timestamp"] for state in run["states"]}
        changes += [(times["RUNNING"], 1), (times["COMPLETED"], -1)]
    running = most = 0
    # What ends and what begins in one transaction has one timestamp; the slot was free before it was taken.
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most
