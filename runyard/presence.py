"""Whether a client is still there: work that nobody waits for is not to be gone on with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect

Result = TypeVar("Result")
Receive = Callable[[], Awaitable[Any]]

AT_ONCE_SECONDS = 0.25
"""Requests answered in this time, which are nearly all, are not watched: watching costs more than a small one."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away. Its request has to have been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def while_present(receive: Receive, work: Awaitable[Result], at_once: float = AT_ONCE_SECONDS) -> Result:
    """The result of the work; ClientDisconnect, and the work is cancelled, where the client goes away before."""
    task = asyncio.current_task()
    assert task is not None
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        await until_gone(receive)
        task.cancel()

    timer = asyncio.get_running_loop().call_later(at_once, lambda: watching.append(asyncio.create_task(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if watching and watching[0].done() and not watching[0].cancelled() and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        for each in watching:
            each.cancel()
