"""Joins what is requested while a request is in flight into the next request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

MAX_ITEMS = 500
MAX_BYTES = 512 * 1024


class Sized(Protocol):
    """An item of a batch."""

    size: int
    """Size in a request, in bytes."""


S = TypeVar("S", bound=Sized)


class Batcher(Generic[S]):
    """Sends batches one after the other: an item alone is sent at once, and items that arrive meanwhile are joined.

    The order of the items is kept. A batch has at most `max_items` items and `max_bytes` bytes; a larger item is sent
    alone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[list[S]], Awaitable[None]],
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Prepare batches that `send` sends on `loop`. `send` must handle every error of a batch."""
        self._loop = loop
        self._send = send
        self.max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[S] = deque()
        self._wakes = False
        self._sending: asyncio.Task[None] | None = None

    def add(self, items: Iterable[S]) -> None:
        """Add items, from any thread. Raises RuntimeError when the loop is closed."""
        self._items.extend(items)
        if not self._wakes:
            # A second wake-up is harmless, so this needs no lock.
            self._wakes = True
            self._loop.call_soon_threadsafe(self._wake)

    def add_first(self, items: Iterable[S]) -> None:
        """Put items at the front of the queue, in their order. Called on the loop."""
        self._items.extendleft(reversed(list(items)))
        self._wake()

    def __len__(self) -> int:
        """Number of items that are in no request."""
        return len(self._items)

    def pending(self) -> list[S]:
        """Remove and return the items that are in no request."""
        return [self._items.popleft() for _ in range(len(self._items))]

    async def finish(self) -> None:
        """Wait until all items have been sent."""
        while self._sending is not None:
            await asyncio.wait([self._sending])

    def _wake(self) -> None:
        self._wakes = False
        if self._sending is None and self._items:
            self._sending = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._items:
                await self._send(self._next_batch())
        finally:
            self._sending = None

    def _next_batch(self) -> list[S]:
        batch = [self._items.popleft()]
        size = batch[0].size
        while self._items and len(batch) < self.max_items and size + self._items[0].size <= self._max_bytes:
            size += self._items[0].size
            batch.append(self._items.popleft())
        return batch
