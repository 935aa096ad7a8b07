"""Events of a response that is a stream of Server-Sent Events (graphql-sse)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson

from tests.client import TIMEOUT_SECONDS

COMPLETE = ("complete", "")
"""The last event of a stream."""


async def read_events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Yield the name and the data of each event. A comment has an empty name."""
    text = ""
    async for chunk in response.aiter_text():
        text += chunk
        while "\n\n" in text:
            event, _, text = text.partition("\n\n")
            fields = dict(line.split(":", 1) for line in event.split("\n"))
            data = fields.get("data", "").strip()
            yield fields.get("event", "").strip(), orjson.loads(data) if data else ""


async def next_event(events: AsyncIterator[tuple[str, Any]]) -> tuple[str, Any]:
    """Return the next event. Fails on a timeout."""
    return await asyncio.wait_for(anext(events), TIMEOUT_SECONDS)
