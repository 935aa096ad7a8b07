"""Awaits fields together, for an operation that may be cancelled at any time.

A task that is cancelled before its first step drops what it was to await: resolvers that were called and are never awaited,
of which Python warns, once for each. graphql-core cancels the tasks of fields so; here all have begun when they are.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from graphql.execution import executor


async def gather_begun(*awaitables: Awaitable[Any]) -> list[Any]:
    """The results of all. Where one fails, or this is cancelled, none is left running."""
    futures = [asyncio.ensure_future(each) for each in awaitables]
    if not futures:
        return []
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        try:
            # Their first steps were due before the next one of this task is.
            await asyncio.sleep(0)
        finally:
            await _end(futures)
        raise
    for future in futures:
        if future.done() and not future.cancelled() and (error := future.exception()) is not None:
            await _end(futures)
            raise error
    return [future.result() for future in futures]


def gather_fields_when_begun() -> None:
    """Let graphql-core do so."""
    executor.gather_with_cancel = gather_begun  # pyright: ignore[reportPrivateImportUsage]


async def _end(futures: Sequence["asyncio.Future[Any]"]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(futures)
    for future in futures:
        if not future.cancelled():
            future.exception()  # so that nobody is told that it was not looked at
