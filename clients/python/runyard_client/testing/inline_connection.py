"""The connection of inline mode: what the app would send to a server is recorded here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any

import orjson

from runyard_client.connection.enqueuing import Created
from runyard_client.connection.waiting import End, Watch
from runyard_client.context import read_time
from runyard_client.errors import NotSerialisable, RunyardError, TaskDeleted
from runyard_client.tasks.calls import Call
from runyard_client.testing.inline_run import InlineRun

NOT_IMITATED = {"cacheKey": "cache_key", "flowRunId": "flow_run"}
"""Fields of the input whose rules only a server applies, and the options that set them."""


class NotImitated(RunyardError):
    """Inline mode does not imitate a rule of the server. Test it with the fixture `runyard_server`."""


class InlineConnection:
    """Takes the place of `runyard_client.connection.app_connection.Connection`, for all apps of the process.

    `clock` returns the time of the inline mode.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.runs: list[InlineRun] = []
        self._clock = clock
        self._count = 0

    @property
    def enqueuer(self) -> InlineConnection:
        """Receives calls with `submit`."""
        return self

    @property
    def waiter(self) -> InlineConnection:
        """Receives those who wait for runs with `watch`."""
        return self

    def submit(self, calls: Sequence[Call[Any]]) -> Future[list[Created | Exception]]:
        """Record calls. Raises NotSerialisable and NotImitated, before any of them is recorded."""
        inputs = [_through_json(call.input) for call in calls]
        for input in inputs:
            _check_imitated(input)
        pairs = zip(calls, inputs, strict=True)
        return _completed([self._record(call.task, input) for call, input in pairs])

    def watch(self, ids: Collection[str], watch: Watch) -> None:
        """Notify `watch` of the runs at once. A run that has not ended is an error: nothing would execute it."""
        for id in ids:
            watch.notify(self._end(id))

    def forget(self, ids: Collection[str], watch: Watch) -> None:
        """Do nothing: nothing is watched any longer."""

    def execute(self, operation: str, variables: Mapping[str, Any], timeout: float = 0.0) -> Future[Any]:
        """Execute an operation of a handle. Raises NotImitated for any other."""
        match operation:
            case "GetTaskRun":
                run = self.find(variables["id"])
                return _completed(None if run is None else _describe(run))
            case "CancelTaskRuns":
                for id in variables["filter"]["id"]["in"]:
                    self._cancel(id)
                return _completed(None)
            case _:
                raise NotImitated(f"Inline mode does not execute {operation}. Use the fixture `runyard_server`.")

    def delete(self, id: str) -> Future[None]:
        """Delete a run. A run that does not exist is no error."""
        self.runs = [run for run in self.runs if run.id != id]
        return _completed(None)

    def find(self, id: str) -> InlineRun | None:
        """Return the run with this id, or None."""
        return next((run for run in self.runs if run.id == id), None)

    def _record(self, task: Any, input: dict[str, Any]) -> Created:
        existing = next((run for run in self.runs if _is_same(run, input)), None)
        if existing is not None:
            return Created(existing.id, created=False)
        self._count += 1
        now = self._clock()
        run = InlineRun(task, input, self._count, created_at=now, due_at=_due_at(input, now))
        self.runs.append(run)
        return Created(run.id, created=True)

    def _cancel(self, id: str) -> None:
        run = self.find(id)
        if run is None:
            return
        if run.state["type"] == "RUNNING" and run.current is not None:
            run.current.request_stop("cancelled")
        else:
            run.cancel(self._clock())

    def _end(self, id: str) -> End:
        run = self.find(id)
        if run is None:
            return End(id, None, TaskDeleted(f"No task run has the id {id}. It may have been deleted."))
        if not run.has_ended:
            text = f"The run {run.number} of {run.task.key} has not ended. Call `run_all()` before you wait for it."
            return End(id, None, RunyardError(text))
        return End(id, {"message": None, "data": None} | run.state)


def _is_same(run: InlineRun, input: Mapping[str, Any]) -> bool:
    """Whether the server would return this run instead of creating another one."""
    if run.input["taskKey"] == input["taskKey"] and run.input["dynamicKey"] == input["dynamicKey"]:
        return True
    unique = input.get("uniqueKey")
    return unique is not None and run.input.get("uniqueKey") == unique and not run.has_ended


def _check_imitated(input: Mapping[str, Any]) -> None:
    for field, option in NOT_IMITATED.items():
        if field in input:
            raise NotImitated(
                f"Inline mode does not imitate `{option}` of {input['taskKey']}. Use the fixture `runyard_server`, or"
                f" remove it with `with_({option}=None)`."
            )


def _due_at(input: Mapping[str, Any], now: datetime) -> datetime:
    scheduled = read_time(input["state"].get("details", {}).get("scheduledTime"))
    if scheduled is not None:
        return max(scheduled, now)
    return now + timedelta(seconds=input.get("delaySeconds", 0))


def _through_json(input: Mapping[str, Any]) -> dict[str, Any]:
    try:
        read: dict[str, Any] = orjson.loads(orjson.dumps(input))
    except TypeError as error:
        raise NotSerialisable(str(error)) from error
    return read


def _describe(run: InlineRun) -> dict[str, Any]:
    """Return the run as the server does for `GetTaskRun`."""
    return {
        "id": run.id,
        "name": run.input.get("name") or "",
        "taskKey": run.task.key,
        "runCount": run.run_count,
        "nextScheduledStartTime": run.due_at.isoformat() if run.is_waiting else None,
        "startTime": run.started_at and run.started_at.isoformat(),
        "endTime": run.ended_at and run.ended_at.isoformat(),
        "state": {"message": None, "data": None} | run.state,
        "progress": _describe_progress(run),
    }


def _describe_progress(run: InlineRun) -> dict[str, Any] | None:
    if run.current is None or run.current.latest_progress is None or run.started_at is None:
        return None
    done, total, message = run.current.latest_progress
    updated_at = (run.ended_at or run.started_at).isoformat()
    return {"done": done, "total": total, "message": message, "updatedAt": updated_at}


def _completed(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
