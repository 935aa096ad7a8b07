"""Handles of task runs: their status and result, and operations on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runyard_client.connection.background import check_blocking
from runyard_client.connection.watching import wait_for_ends, wait_for_ends_sync
from runyard_client.errors import TaskCancelled, TaskDeleted
from runyard_client.results.envelope import is_stored, raise_task_failed, read_envelope

if TYPE_CHECKING:
    from runyard_client.connection.app_connection import Connection
    from runyard_client.connection.waiting import End
    from runyard_client.contract.operations import CancelTaskRunsResult, GetTaskRunResult
    from runyard_client.tasks.task import Task

R_co = TypeVar("R_co", covariant=True)
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress that the worker reported last."""

    done: float
    total: float | None
    message: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A task run as it was when the server responded.

    `type` is one of SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CRASHED, CANCELLED, PAUSED and CANCELLING. `due_at`
    is None unless it is SCHEDULED.
    """

    type: str
    name: str
    message: str | None
    run_count: int
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: Progress | None

    @property
    def has_ended(self) -> bool:
        """Whether the run is COMPLETED, FAILED, CRASHED or CANCELLED."""
        return self.type in ENDED


class Handle(Generic[R_co]):
    """A task run: its id, and ways to wait for it. Handles may be used from all threads and event loops.

    `created` is false when the run existed before the call that returned this handle, because of its `key` or `unique`.
    A handle remembers how its run ended, even if a client starts the run again.
    """

    def __init__(
        self, id: str, connect: Callable[[], Connection], task: Task[..., R_co] | None, *, created: bool = False
    ) -> None:
        self.id = id
        self.created = created
        self.task = task
        self._connect = connect
        self._end: End | None = None

    def __repr__(self) -> str:
        return f"<Handle {self.id}{f' of {self.task.key}' if self.task else ''}>"

    async def status(self) -> RunStatus:
        """Return the current state. Raises TaskDeleted when the run does not exist."""
        return self._read_status(await asyncio.wrap_future(self._request_status()))

    def status_sync(self) -> RunStatus:
        """Return the current state, as `status` does. Blocks."""
        check_blocking("handle.status()")
        return self._read_status(self._request_status().result())

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109
        """Wait until the run has ended, and return its result.

        Cancelling the waiting task does not cancel the run. A run that waits for a retry has not ended.

        Raises:
            TaskFailed: the run is FAILED or CRASHED; an exception of `raises` of the task instead, if it is one.
            TaskCancelled: the run is CANCELLED.
            TaskDeleted: the run does not exist, or was deleted.
            NoResult: the run is COMPLETED without a result.
            TimeoutError: `timeout` seconds have passed. The run continues.
        """
        end = await self._wait(timeout)
        if end.state is not None and is_stored(end.state["data"]):
            return await asyncio.to_thread(self._read_result, end)
        return self._read_result(end)

    def result_sync(self, timeout: float | None = None) -> R_co:
        """Wait until the run has ended, and return its result, as `result` does. Blocks."""
        check_blocking("handle.result()")
        return self._read_result(self._wait_sync(timeout))

    async def wait(self, timeout: float | None = None) -> RunStatus:  # noqa: ASYNC109
        """Wait until the run has ended, and return its status. Raises TimeoutError and TaskDeleted."""
        self._check_deleted(await self._wait(timeout))
        return await self.status()

    def wait_sync(self, timeout: float | None = None) -> RunStatus:
        """Wait until the run has ended, as `wait` does. Blocks."""
        check_blocking("handle.wait()")
        self._check_deleted(self._wait_sync(timeout))
        return self.status_sync()

    async def cancel(self, wait: float = 0.0) -> RunStatus:
        """Cancel the run, and return its status, after its end or `wait` seconds.

        A run that no worker executes becomes CANCELLED at once. Else it becomes CANCELLING, and its worker stops it;
        it is COMPLETED if it was faster. A run that has ended is left as it is. Raises TaskDeleted.
        """
        await asyncio.wrap_future(self._request_cancel())
        status = await self.status()
        if wait <= 0 or status.has_ended:
            return status
        try:
            return await self.wait(wait)
        except TimeoutError:
            return await self.status()

    def cancel_sync(self, wait: float = 0.0) -> RunStatus:
        """Cancel the run, as `cancel` does. Blocks."""
        check_blocking("handle.cancel()")
        self._request_cancel().result()
        status = self.status_sync()
        if wait <= 0 or status.has_ended:
            return status
        try:
            return self.wait_sync(wait)
        except TimeoutError:
            return self.status_sync()

    async def delete(self) -> None:
        """Delete the run in any state. Its worker stops it. A run that does not exist is no error."""
        await asyncio.wrap_future(self._request_delete())

    def delete_sync(self) -> None:
        """Delete the run, as `delete` does. Blocks."""
        check_blocking("handle.delete()")
        self._request_delete().result()

    def remember(self, end: End) -> None:
        """Keep the end of the run. Raises its error, except that the run does not exist."""
        if end.error is not None and not isinstance(end.error, TaskDeleted):
            raise copy(end.error)
        self._end = end

    @property
    def is_known_to_have_ended(self) -> bool:
        """Whether this handle remembers how its run ended."""
        return self._end is not None

    async def _wait(self, timeout: float | None) -> End:  # noqa: ASYNC109
        if self._end is None:
            self._take(await wait_for_ends(self._connect(), [self.id], timeout), timeout)
        return self._ended()

    def _wait_sync(self, timeout: float | None) -> End:
        if self._end is None:
            self._take(wait_for_ends_sync(self._connect(), [self.id], timeout), timeout)
        return self._ended()

    def _take(self, ends: dict[str, End], timeout: float | None) -> None:
        if self.id not in ends:
            raise TimeoutError(f"The task run {self.id} has not ended within {timeout:g} seconds.")
        self.remember(ends[self.id])

    def _ended(self) -> End:
        assert self._end is not None
        return self._end

    def _check_deleted(self, end: End) -> None:
        if end.error is not None:
            raise copy(end.error)

    def _state(self, end: End) -> dict[str, Any]:
        self._check_deleted(end)
        assert end.state is not None
        return end.state

    def _read_result(self, end: End) -> R_co:
        state = self._state(end)
        if state["type"] == "CANCELLED":
            raise TaskCancelled(state["message"] or f"The task run {self.id} was cancelled.")
        if state["type"] != "COMPLETED":
            raise_task_failed(state, self.task, self.id)
        if self.task is not None:
            return self.task.read_result(state["data"])
        result: R_co = read_envelope(state["data"], None)
        return result

    def _request_status(self) -> Future[GetTaskRunResult | None]:
        return self._connect().execute("GetTaskRun", {"id": self.id})

    def _request_cancel(self) -> Future[CancelTaskRunsResult]:
        return self._connect().execute("CancelTaskRuns", {"filter": {"id": {"in": [self.id]}}, "limit": 1})

    def _request_delete(self) -> Future[None]:
        return self._connect().delete(self.id)

    def _read_status(self, run: GetTaskRunResult | None) -> RunStatus:
        if run is None:
            raise TaskDeleted(f"No task run has the id {self.id}. It may have been deleted.")
        return _run_status(run)


def _run_status(run: GetTaskRunResult) -> RunStatus:
    progress = run["progress"]
    return RunStatus(
        type=run["state"]["type"],
        name=run["state"]["name"],
        message=run["state"]["message"],
        run_count=run["runCount"],
        due_at=_moment(run["nextScheduledStartTime"]),
        started_at=_moment(run["startTime"]),
        ended_at=_moment(run["endTime"]),
        progress=progress
        and Progress(
            progress["done"], progress["total"], progress["message"], datetime.fromisoformat(progress["updatedAt"])
        ),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
