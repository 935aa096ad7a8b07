"""The event loop of this process that sends requests, in a daemon thread.

All apps, event loops and threads of a process use it, so their requests are joined, and no connection belongs to an event
loop that ends before the program does. It starts at the first request. A forked child process starts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from importlib import import_module
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

EXIT_SECONDS = 2.0
"""How long the exit of the program waits for the responses to what was enqueued."""


class Service(Protocol):
    """Something on the background loop that has connections."""

    async def close(self) -> None:
        """Wait for the responses to what was enqueued, and close the connections."""
        ...

    def abandon(self) -> None:
        """Forget the connections without closing them: in a forked child, they belong to the parent."""
        ...


class Background:
    """An event loop in a daemon thread, and the services on it. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.lock = threading.RLock()
        self.services: set[Service] = set()
        self._thread = threading.Thread(target=self._run, name="runyard-client", daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        """Return whether this loop is the one of this process."""
        return _current.background is self

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop. Cancelling the returned future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self, timeout: float = EXIT_SECONDS) -> None:
        """Close all services, waiting up to `timeout` seconds for their requests, and end the thread."""
        try:
            self.run(self._close_services(timeout)).result()
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    async def _close_services(self, timeout: float) -> None:  # noqa: ASYNC109
        """Close all services. What has not ended by the time-out is cancelled."""
        if self.services:
            closing = [asyncio.create_task(service.close()) for service in self.services]
            _, pending = await asyncio.wait(closing, timeout=timeout)
            for task in pending:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self) -> None:
        # Takes long, and would stop the loop if the first request did it.
        import_module("aiohttp")
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


class _Current:
    """The background loop of this process."""

    def __init__(self) -> None:
        self.background: Background | None = None
        self.lock = threading.Lock()
        self.inherited: list[Background] = []

    def forget(self) -> None:
        """Start again in a forked child: the thread of the parent's loop does not exist here, and locks may be held."""
        if self.background is not None:
            for service in self.background.services:
                service.abandon()
            # Kept alive: destroying the loop would close it.
            self.inherited.append(self.background)
        self.background = None
        self.lock = threading.Lock()


_current = _Current()


def background() -> Background:
    """Return the background loop of this process. Starts it at the first call."""
    with _current.lock:
        if _current.background is None:
            _current.background = Background()
        return _current.background


def is_started() -> bool:
    """Return whether this process has a background loop."""
    return _current.background is not None


def stop() -> None:
    """Close all connections of this process. A later request starts the background loop again."""
    with _current.lock:
        stopping, _current.background = _current.background, None
    if stopping is not None:
        stopping.stop()


def check_blocking(alternative: str) -> None:
    """Raise RuntimeError when the calling thread runs an event loop, which a blocking call would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"This call would block the running event loop. Use `await {alternative}`.")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_current.forget)
atexit.register(stop)
