"""The flow run sweeper: fails flow runs whose pause has timed out, and ends what has outlived its flow run.

Task runs of CANCELLED and CRASHED flow runs have no leases whose expiry would end them. Source: semantics, section 7.8,
*Background services*; what follows a CRASHED flow run is a decision of this project.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from db.connection import Connection, FlowRunStatesWritten, Notification, StatesWritten
from db.database import Database, WriteOperation
from db.enums import StateType
from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadTooLarge
from db.runtime.timestamps import format_timestamp, parse_timestamp
from db.statements import flow_run_sweeps, task_runs
from db.statements.flow_run_sweeps import OrphanedTaskRun, PendingWork
from resolvers.batch_size import AdaptiveBatchSize, limit_read_size
from resolvers.orchestration.transition import ProposedState
from resolvers.transitions.batch import TaskRunTransitions
from resolvers.transitions.set_states import StateChange, set_flow_run_states

log = logging.getLogger("runyard.flow_runs")

MAX_BATCH_SIZE = 200
"""Maximum number of runs in one transaction. The next transactions change the rest."""

MIN_INTERVAL = timedelta(seconds=3)
MAX_INTERVAL = timedelta(seconds=4)
"""Time between two sweeps. A pause ends within 5 s of its timeout, and a sweep takes time too."""

LOOK_BACK = timedelta(days=1)
"""How long after the end of a flow run its task runs are checked. Clients may still create or start some."""

FIRST_TIMESTAMP = "0001-01-01T00:00:00.000000Z"

CANCELLED_MESSAGE = "The parent flow run was cancelled."
CRASHED_MESSAGE = "The parent flow run crashed."


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """Which runs to change in one transaction: at most `size`, of flow runs that ended at `since` or later."""

    size: int
    since: str


def fail_expired_pauses(connection: Connection, requests: Sequence[SweepRequest]) -> list[int | Exception]:
    """Set PAUSED flow runs whose pause has timed out to FAILED. Return their number, once for each request."""
    return _sweep_once(connection, requests, _fail_expired_pauses)


def cancel_orphaned_subflows(connection: Connection, requests: Sequence[SweepRequest]) -> list[int | Exception]:
    """Cancel subflows of CANCELLED flow runs. Return their number, once for each request.

    A subflow without a deployment becomes CANCELLED. With a deployment it becomes CANCELLING, for its process to stop,
    or CANCELLED when it is SCHEDULED.
    """
    return _sweep_once(connection, requests, _cancel_orphaned_subflows)


def end_orphaned_task_runs(connection: Connection, requests: Sequence[SweepRequest]) -> list[int | Exception]:
    """End task runs of CANCELLED and CRASHED flow runs, and free their slots. Return their number, once for each request."""
    return _sweep_once(connection, requests, _end_orphaned_task_runs)


def _sweep_once(
    connection: Connection, requests: Sequence[SweepRequest], change: Callable[[Connection, SweepRequest], int]
) -> list[int | Exception]:
    """Make one change for all requests: of the smallest size, and since the earliest time."""
    request = SweepRequest(min(each.size for each in requests), min(each.since for each in requests))
    with limit_read_size(connection, request.size):
        changed = change(connection, request)
    return [changed] * len(requests)


def _fail_expired_pauses(connection: Connection, request: SweepRequest) -> int:
    expired = flow_run_sweeps.expired_pauses(connection, request.size)
    set_flow_run_states(connection, [StateChange(id, pause_timed_out(at), force=True) for id, at in expired])
    return len(expired)


def pause_timed_out(timeout_at: str) -> ProposedState:
    """Return the state of a flow run whose pause has timed out, as the rule `resume_flow_runs` sets it."""
    return ProposedState(StateType.FAILED, StateType.FAILED.default_name, f"The pause timed out at {timeout_at}.")


def _cancel_orphaned_subflows(connection: Connection, request: SweepRequest) -> int:
    subflows = flow_run_sweeps.orphaned_subflows(connection, request.size)
    set_flow_run_states(
        connection,
        [
            StateChange(id, _cancelled(StateType.CANCELLING if is_deployed else StateType.CANCELLED), not is_deployed)
            for id, is_deployed in subflows
        ],
    )
    return len(subflows)


def _end_orphaned_task_runs(connection: Connection, request: SweepRequest) -> int:
    orphaned = {each.id: each for each in flow_run_sweeps.orphaned_task_runs(connection, request.since, request.size)}
    facts_by_id = task_runs.task_run_facts(connection, [(id, None) for id in orphaned], include_large_columns=False)
    transitions = TaskRunTransitions.load(connection, [facts.run for facts in facts_by_id.values()], [])
    for id, facts in facts_by_id.items():
        # No rules apply, because no client proposed the state.
        transitions.propose(
            (), facts.run, final_state(orphaned[id]), flow_run=None, entry=facts.queue_entry, lease_id=None
        )
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)
    return len(transitions.changed_runs)


def final_state(task_run: OrphanedTaskRun) -> ProposedState:
    """Return the state in which a task run follows its flow run.

    In a CRASHED flow run, a CANCELLING task run becomes CANCELLED, as when its worker is lost.
    """
    if task_run.flow_run_state_type is StateType.CANCELLED:
        return _cancelled(StateType.CANCELLED)
    type = StateType.CANCELLED if task_run.state_type is StateType.CANCELLING else StateType.CRASHED
    return ProposedState(type, type.default_name, CRASHED_MESSAGE)


def _cancelled(type: StateType) -> ProposedState:
    return ProposedState(type, type.default_name, CANCELLED_MESSAGE)


class FlowRunSweeper:
    """Sweeps after states were written, and when a pause times out.

    Sleeps while nothing can be due. On a database that other servers use too, it polls, because their changes and their
    pauses are not announced here.
    """

    def __init__(self, database: Database, clock: Clock, chance: Chance) -> None:
        self._database = database
        self._clock = clock
        self._chance = chance
        self._states_written = asyncio.Event()
        self._batch_size = AdaptiveBatchSize(MAX_BATCH_SIZE)
        self._has_swept = False
        """Whether one sweep has checked all flow runs, including those that ended before `LOOK_BACK`."""
        database.listen(self._on_notifications)

    async def run(self) -> None:
        """Sweep until cancelled. Failures are logged and retried, those of an unavailable database included."""
        never = asyncio.Event()
        while True:
            # States that are written one after another cause one sweep.
            await self._clock.wait(never, seconds=MIN_INTERVAL.total_seconds())
            self._states_written.clear()
            next_sweep_at = await self._try_sweep()
            if next_sweep_at is None:
                await self._states_written.wait()
            else:
                await self._clock.wait(self._states_written, next_sweep_at - MIN_INTERVAL)

    async def _try_sweep(self) -> datetime | None:
        """Sweep, and return when to sweep next, unless a state is written before. None: not before that."""
        try:
            next_timeout = await self._sweep()
        except DatabaseUnavailable as error:
            log.warning("The database is unavailable for the flow run sweep, retrying: %s", error)
            return self._clock.now() + MAX_INTERVAL
        except Exception:
            # A fault must not end sweeping. Each one is logged with its traceback.
            log.exception("The flow run sweep failed, retrying")
            return self._clock.now() + MAX_INTERVAL
        now = self._clock.now()
        due = None if next_timeout is None else max(now, parse_timestamp(next_timeout))
        if not self._database.is_shared:
            return due
        # Usually one of several servers then changes all runs.
        poll_at = now + MIN_INTERVAL + (MAX_INTERVAL - MIN_INTERVAL) * self._chance()
        return poll_at if due is None else min(poll_at, due)

    async def _sweep(self) -> str | None:
        """Change runs until none is left that another transaction has not locked. Return when the next pause times out."""
        while True:
            since = format_timestamp(self._clock.now() - LOOK_BACK) if self._has_swept else FIRST_TIMESTAMP
            work = await self._database.read(partial(flow_run_sweeps.pending_work, since=since))
            if not await self._change_runs(work, since):
                self._has_swept = True
                return work.next_pause_timeout_at

    async def _change_runs(self, work: PendingWork, since: str) -> int:
        """Change one batch of each kind, and return the number of changed runs."""
        timeout = work.next_pause_timeout_at
        is_expired = timeout is not None and parse_timestamp(timeout) < self._clock.now()
        changed = 0
        for operation, is_needed, message in (
            (fail_expired_pauses, is_expired, "Failed %d flow runs whose pause has timed out"),
            # Before the task runs that represent them, which otherwise change twice.
            (cancel_orphaned_subflows, work.has_subflows, "Cancelled %d subflows of cancelled flow runs"),
            (end_orphaned_task_runs, work.has_task_runs, "Ended %d task runs of cancelled and crashed flow runs"),
        ):
            if is_needed and (count := await self._write(operation, since)):
                log.info(message, count)
                changed += count
        return changed

    async def _write(self, operation: WriteOperation[SweepRequest, int], since: str) -> int:
        while True:
            size = self._batch_size.size
            try:
                count = await self._database.write(operation, SweepRequest(size, since))
            except ReadTooLarge as error:
                self._batch_size.shrink(size, error)
                continue
            self._batch_size.record_success()
            return count

    def _on_notifications(self, notifications: Sequence[Notification]) -> None:
        if any(isinstance(each, StatesWritten | FlowRunStatesWritten) for each in notifications):
            self._states_written.set()
