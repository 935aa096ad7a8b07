"""Creates task runs: joins calls of all threads into requests, and repeats those that got no response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from runyard_client.connection.batching import Batcher
from runyard_client.errors import (
    NotSerialisable,
    QueueFull,
    Refused,
    RequestTooLarge,
    RunyardError,
    ServerUnavailable,
)
from runyard_client.transport.back_off import BackOff

if TYPE_CHECKING:
    from runyard_client.contract.operations import CreateTaskRunsResult
    from runyard_client.tasks.calls import Call
    from runyard_client.transport.http import Transport

WhenFull = Literal["raise", "wait"]
MIN_REQUEST_SECONDS = 1.0
MAX_REQUEST_SECONDS = 30.0
MAX_FULL_SECONDS = 2.0
"""Longest time between attempts to create a run whose queue is full."""


@dataclass(frozen=True, slots=True)
class Created:
    """A task run that exists. `created` is false when it existed before the call."""

    id: str
    created: bool


class Submission:
    """Calls that are enqueued together, and the results for them in order."""

    def __init__(self, calls: Sequence[Call[Any]], now: float) -> None:
        """Serialise the calls. Raises NotSerialisable."""
        self.future: Future[list[Created | Exception]] = Future()
        self._results: list[Created | Exception | None] = [None] * len(calls)
        self._missing = len(calls)
        self.items = [_Item(self, index, call, now) for index, call in enumerate(calls)]

    def settle(self, index: int, result: Created | Exception) -> None:
        """Set the result of one call. The last one completes the future. Called on the background loop."""
        self._results[index] = result
        self._missing -= 1
        # False when the caller no longer waits.
        if self._missing == 0 and self.future.set_running_or_notify_cancel():
            self.future.set_result([result for result in self._results if result is not None])


class _Item:
    """One call to be sent."""

    __slots__ = ("enqueued_at", "index", "input", "key", "size", "submission")

    def __init__(self, submission: Submission, index: int, call: Call[Any], now: float) -> None:
        self.submission = submission
        self.index = index
        self.key: str = call.input["dynamicKey"]
        text = _serialise(call.input)
        self.input = orjson.Fragment(text)
        self.size = len(text)
        self.enqueued_at = now

    def settle(self, result: Created | Exception) -> None:
        self.submission.settle(self.index, result)

    def fail(self, error: Exception) -> None:
        """Set an error that may concern other calls too. Each caller raises an exception object of its own."""
        self.settle(_maybe_created(error, self.key) if isinstance(error, ServerUnavailable) else copy(error))


class Enqueuer:
    """Creates task runs on the background loop. `submit` may be called from any thread.

    Args:
        timeout: seconds for which a request without a response is repeated.
        when_full: whether a call fails or waits while the queue of its task key is full.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        *,
        timeout: float,
        when_full: WhenFull,
        clock: Callable[[], float] = time.monotonic,
        back_off: BackOff | None = None,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout = timeout
        self._waits_when_full = when_full == "wait"
        self._clock = clock
        self._back_off = back_off or BackOff()
        self._full_back_off = BackOff()
        self._last_response = clock()
        self._batcher: Batcher[_Item] = Batcher(loop, self._send_batch)
        self._full: list[_Item] = []

    def submit(self, calls: Sequence[Call[Any]]) -> Future[list[Created | Exception]]:
        """Enqueue calls. The future has a result or an error for each call, in order. Raises NotSerialisable."""
        submission = Submission(calls, self._clock())
        if submission.items:
            self._batcher.add(submission.items)
        else:
            submission.future.set_result([])
        return submission.future

    def count_pending(self) -> int:
        """Return how many calls wait for the request in flight."""
        return len(self._batcher)

    async def finish(self) -> None:
        """Wait for the responses to everything that was submitted, except to queues that are full."""
        await self._batcher.finish()

    def fail_pending(self, error: Exception) -> None:
        """Fail what has not been created, when the connection is closed."""
        for item in [*self._batcher.pending(), *self._full]:
            item.fail(error)
        self._full = []

    async def _send_batch(self, batch: list[_Item]) -> None:
        """Send a batch until each item has its result. Errors are results of the items."""
        batch = [item for item in batch if not item.submission.future.cancelled()]
        try:
            while batch:
                batch = await self._attempt(batch)
        except asyncio.CancelledError:
            self._fail(batch, ServerUnavailable("The connection was closed before the server responded."))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must get it
            self._fail(batch, error)

    async def _attempt(self, batch: list[_Item]) -> list[_Item]:
        """Send a batch once, and return the items that must be sent again."""
        try:
            answer = await self._request(batch)
        except ServerUnavailable as error:
            return await self._wait_for_server(batch, error)
        except (Refused, RequestTooLarge) as error:
            return await self._isolate(batch, error)
        except QueueFull as error:
            results: list[Created | Exception] = [error] * len(batch)
        else:
            results = [_read_result(result) for result in answer["results"]]
        self._last_response = self._clock()
        self._back_off.reset()
        self._settle(batch, results)
        return []

    async def _request(self, batch: list[_Item]) -> CreateTaskRunsResult:
        limits = self._transport.limits
        if limits is not None:
            self._batcher.max_items = min(self._batcher.max_items, limits.max_batch)
        remaining = min(self._deadline(item) for item in batch) - self._clock()
        # An attempt must have a chance even when little time is left.
        seconds = min(max(remaining, min(MIN_REQUEST_SECONDS, self._timeout)), MAX_REQUEST_SECONDS)
        answer: CreateTaskRunsResult = await self._transport.execute(
            "CreateTaskRuns", {"inputs": [item.input for item in batch]}, timeout=seconds
        )
        if len(answer["results"]) != len(batch):
            raise RunyardError(f"The server returned {len(answer['results'])} results for {len(batch)} task runs.")
        return answer

    def _deadline(self, item: _Item) -> float:
        """Return when to abandon the item. Time in which the server responded to others does not count: it is only busy."""
        return max(item.enqueued_at, self._last_response) + self._timeout

    async def _wait_for_server(self, batch: list[_Item], error: ServerUnavailable) -> list[_Item]:
        """Fail the items whose time is up, and wait before the next attempt for the others."""
        delay = self._back_off.next_delay() if error.retry_after is None else error.retry_after
        now = self._clock()
        remaining: list[_Item] = []
        for item in batch:
            if self._deadline(item) <= now + delay:
                item.fail(error)
            elif not item.submission.future.cancelled():
                remaining.append(item)
        if remaining:
            await asyncio.sleep(delay)
        return remaining

    async def _isolate(self, batch: list[_Item], error: Refused | RequestTooLarge) -> list[_Item]:
        """Fail the item that the server has refused, and return the others, of which nothing was created."""
        if len(batch) == 1:
            batch[0].fail(_own_error(error))
            return []
        index = _item_index(error)
        if index is not None and index < len(batch):
            batch[index].fail(_own_error(error))
            return batch[:index] + batch[index + 1 :]
        middle = len(batch) // 2
        await self._send_batch(batch[:middle])
        return batch[middle:]

    def _settle(self, batch: list[_Item], results: list[Created | Exception]) -> None:
        full: list[_Item] = []
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, QueueFull) and self._waits_when_full:
                full.append(item)
            else:
                item.settle(result)
        if full:
            self._wait_for_room(full)
        else:
            self._full_back_off.reset()

    def _wait_for_room(self, full: list[_Item]) -> None:
        """Send items again after a while. Others are sent meanwhile: their queues may have room."""
        if not self._full:
            delay = min(self._full_back_off.next_delay(), MAX_FULL_SECONDS)
            self._loop.call_later(delay, self._retry_full)
        self._full += full

    def _retry_full(self) -> None:
        items, self._full = self._full, []
        self._batcher.add_first(items)

    def _fail(self, batch: list[_Item], error: Exception) -> None:
        for item in batch:
            item.fail(error)


def _serialise(input: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(input)
    except TypeError as error:
        raise NotSerialisable(str(error)) from error


def _read_result(result: Any) -> Created | Exception:
    error = result["error"]
    if error is None:
        return Created(result["taskRun"]["id"], result["created"])
    if error["code"] == "QUEUE_FULL":
        return QueueFull(error["message"])
    return _own_error(Refused(error["message"], code=error["code"], argument=error["argument"]))


def _item_index(error: Exception) -> int | None:
    """Return the index of the input that an error is about, from an argument such as `inputs.3.priority`."""
    parts = (getattr(error, "argument", None) or "").split(".")
    return int(parts[1]) if len(parts) > 1 and parts[0] == "inputs" and parts[1].isdecimal() else None


def _own_error(error: Refused | RequestTooLarge) -> Exception:
    """Return an error about one input without the place of the input in the request, which callers do not know."""
    index = _item_index(error)
    if index is None or not isinstance(error, Refused):
        return error
    prefix = f"inputs.{index}"
    argument = (error.argument or "").removeprefix(prefix).lstrip(".") or None
    message = str(error).removeprefix(prefix).lstrip(".:").lstrip()
    return Refused(message, code=error.code, argument=argument)


def _maybe_created(error: ServerUnavailable, key: str) -> ServerUnavailable:
    failure = ServerUnavailable(
        f"{str(error).rstrip('.')}. The task run may have been created; enqueue it again with key={key!r} to find it.",
        key=key,
        retry_after=error.retry_after,
    )
    failure.__cause__ = error
    return failure
