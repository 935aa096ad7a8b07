"""Calls that are enqueued together at the end of a block."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from runyard_client.app import Runyard
    from runyard_client.handle import Handle
    from runyard_client.tasks.calls import Call


class Outbox:
    """Collects calls, and enqueues them when its block ends without an exception.

    Use it to enqueue after a transaction: put the transaction inside the block, and nothing is enqueued when it fails. For
    one thread or task.
    """

    def __init__(self, app: Runyard) -> None:
        self._app = app
        self._calls: list[Call[Any]] = []
        self.handles: list[Handle[Any]] = []
        """Handles of the calls in their order, after the block."""

    def add(self, call: Call[Any]) -> None:
        """Add a call. It is enqueued after those that were added before."""
        self._calls.append(call)

    def __len__(self) -> int:
        return len(self._calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        calls, self._calls = self._calls, []
        if error_type is None and calls:
            self.handles = self._app.enqueue_many_sync(calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        calls, self._calls = self._calls, []
        if error_type is None and calls:
            self.handles = await self._app.enqueue_many(calls)
