"""Results of bulk changes, as tests expect them, and the states of runs."""

from collections.abc import Sequence
from typing import Any

from tests.client import Client

ALL = {"id": {"isNull": False}}
"""Filter that matches every run."""


def changed(count: int, *rejections: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    """Return the payload of a bulk change without its cursor."""
    return {
        "matched": count + len(rejections),
        "changed": count,
        "rejected": len(rejections),
        "rejections": list(rejections),
        "hasMore": has_more,
    }


def rejection(id: str, reason: str, status: str | None = None, error: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"taskRunId": id, "status": status, "reason": reason, "error": error}


async def change_runs(client: Client, operation: str, **variables: Any) -> dict[str, Any]:
    """Execute a bulk change of all runs, unless a filter is given, and return the payload without its cursor."""
    payload = await client.execute(operation, **{"filter": ALL, **variables})
    del payload["endCursor"]
    return payload


async def change_all_pages(client: Client, operation: str, **variables: Any) -> list[dict[str, Any]]:
    """Repeat a bulk change until no more runs match, and return all payloads."""
    payloads = [await client.execute(operation, **variables)]
    while payloads[-1]["hasMore"]:
        payloads.append(await client.execute(operation, **variables, after=payloads[-1]["endCursor"]))
    return payloads


async def read_states(client: Client, ids: Sequence[str]) -> list[str]:
    """Return the state types of these task runs."""
    return [(await client.execute("GetTaskRunState", id=id))["stateType"] for id in ids]
