"""Awaits fields concurrently, in an operation that can be cancelled at any time.

A task that is cancelled before its first step never awaits its coroutine, and Python warns about each of them.
graphql-core cancels the tasks of fields this way. Here every task has started before it is cancelled.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from graphql.execution import executor


async def gather_started(*awaitables: Awaitable[Any]) -> list[Any]:
    """Return all results. On a failure or cancellation, cancel the other tasks and wait for them."""
    futures = [asyncio.ensure_future(each) for each in awaitables]
    if not futures:
        return []
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        try:
            # The event loop runs the first step of each task before it resumes this one.
            await asyncio.sleep(0)
        finally:
            await _cancel_and_wait(futures)
        raise
    for future in futures:
        if future.done() and not future.cancelled() and (error := future.exception()) is not None:
            await _cancel_and_wait(futures)
            raise error
    return [future.result() for future in futures]


def install_gather_started() -> None:
    """Replace `gather_with_cancel` of graphql-core, for the whole process."""
    executor.gather_with_cancel = gather_started  # pyright: ignore[reportPrivateImportUsage]


async def _cancel_and_wait(futures: Sequence["asyncio.Future[Any]"]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(futures)
    for future in futures:
        if not future.cancelled():
            future.exception()  # marks it as retrieved; asyncio would log it otherwise
