"""A concurrency limit holds with many concurrent clients, and all slots are freed."""

import asyncio
from typing import Any

from tests.builders.api_runs import create_task_runs, read_slot_holders, set_task_run_state
from tests.client import Client
from tests.serving import ServerProcess

CLIENTS = 8
RUNS = 80
LIMIT = 2


async def test_running_runs_never_exceed_the_limit_and_all_slots_are_freed(server_process: ServerProcess) -> None:
    client = await server_process.start()
    await client.execute("SetConcurrencyLimit", tag="db", limit=LIMIT)
    ids = await create_task_runs(client, RUNS, tags=["db", "other"])
    remaining = list(ids)
    wait_statuses: list[str] = []

    async def work() -> None:
        async with Client(server_process.url).http as http:
            worker = Client(server_process.url)
            worker.http = http
            while remaining:
                id = remaining.pop()
                while (status := (await set_task_run_state(worker, id, "RUNNING"))["status"]) == "WAIT":
                    wait_statuses.append(status)
                assert status == "ACCEPT"
                assert (await set_task_run_state(worker, id, "COMPLETED"))["status"] == "ACCEPT"

    await asyncio.gather(*(work() for _ in range(CLIENTS)))

    runs = [await client.execute("GetTaskRun", id=id) for id in ids]
    assert {run["stateType"] for run in runs} == {"COMPLETED"}
    assert max_concurrent(runs) == LIMIT
    assert wait_statuses
    assert await read_slot_holders(client, "db") == []


def max_concurrent(runs: list[dict[str, Any]]) -> int:
    """Return how many runs were RUNNING at the same time, according to their histories."""
    changes: list[tuple[str, int]] = []
    for run in runs:
        times = {state["type"]: state["timestamp"] for state in run["states"]}
        changes += [(times["RUNNING"], 1), (times["COMPLETED"], -1)]
    running = highest = 0
    # Runs that end and start in one transaction share a timestamp: sorting puts the end (-1) first.
    for _, change in sorted(changes):
        running += change
        highest = max(highest, running)
    return highest
