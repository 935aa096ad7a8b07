"""Create task runs for delivery tests."""

from typing import Any

from tests.builders.api_runs import create_task_run, create_task_runs, set_task_run_state
from tests.client import Client


async def create_scheduled(client: Client, task_key: str = "t", *, at: str | None = None, **fields: Any) -> str:
    """Create a background run that is due now, or at the timestamp `at`, and return its id."""
    state = {"type": "SCHEDULED", "details": {"scheduledTime": at}}
    return await create_task_run(client, state, taskKey=task_key, **fields)


async def create_many(client: Client, count: int, task_key: str = "t") -> list[str]:
    """Create background runs that are due now and return their ids in delivery order."""
    return await create_task_runs(client, count, "SCHEDULED", taskKey=task_key)


async def run_under_lease(client: Client, *states: str, lease_seconds: float = 60) -> tuple[str, str]:
    """Receive the next run of the task key `t` as a worker, acknowledge it, set these states and disconnect.

    Return the ids of the run and of its lease.
    """
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], leaseSeconds=lease_seconds)
        (delivery,) = await socket.deliveries(1)
        id, lease_id = delivery["taskRun"]["id"], delivery["leaseId"]
        await client.execute("AcknowledgeTaskRuns", leaseIds=[lease_id])
        for type in states:
            result = await set_task_run_state(client, id, type, lease_id=lease_id)
            assert result["status"] == "ACCEPT"
    return id, lease_id


def run_ids(deliveries: list[dict[str, Any]]) -> list[str]:
    return [delivery["taskRun"]["id"] for delivery in deliveries]


def lease_ids(deliveries: list[dict[str, Any]]) -> list[str]:
    return [delivery["leaseId"] for delivery in deliveries]
