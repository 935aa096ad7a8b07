"""Runs to deliver."""

from typing import Any

from tests.client import Client


async def create_scheduled(client: Client, task_key: str = "t", *, at: str | None = None, **fields: Any) -> str:
    """The id of a new background run, due at once or at the instant `at`."""
    state = {"type": "SCHEDULED", "details": {"scheduledTime": at}}
    payload = await client.ask("CreateTaskRun", input={"taskKey": task_key, "state": state, **fields})
    return payload["taskRun"]["id"]


async def create_many(client: Client, count: int, task_key: str = "t") -> list[str]:
    """The ids of new background runs that are due at once, in the order in which they are to be delivered."""
    state = {"type": "SCHEDULED"}
    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": task_key, "state": state}] * count)
    return [payload["taskRun"]["id"] for payload in payloads]


def run_ids(deliveries: list[dict[str, Any]]) -> list[str]:
    return [delivery["taskRun"]["id"] for delivery in deliveries]


def lease_ids(deliveries: list[dict[str, Any]]) -> list[str]:
    return [delivery["leaseId"] for delivery in deliveries]
