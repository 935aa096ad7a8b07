"""A generated week of work: flows, flow runs and task runs with all their states, as the server would store them.

The same seed generates the same rows, including their ids. The rows do not depend on the database; `benchmarks.seed`
writes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar

from db.enums import TERMINAL, StateType
from db.records import (
    FlowRecord,
    FlowRunRecord,
    QueueEntryRecord,
    RunRecord,
    StateDetails,
    StateRecord,
    TaskRunPolicy,
    TaskRunRecord,
    to_json,
)
from db.runtime.timestamps import format_timestamp
from resolvers.queue.entries import QueueChanges
from resolvers.task_runs import NewTaskRun, build_task_run

T = TypeVar("T")

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 7
END = BEGIN + timedelta(days=DAYS)

FLOW_TASK_RUNS_PER_BACKGROUND_RUN = 10
"""Number of task runs in flow runs for each additional background run."""
FLOW_RUNS_PER_ACTIVE_RUN = 4
"""Number of flow runs for each one that is still RUNNING. Those are the last ones."""

TASKS = ("extract", "validate", "transform", "enrich", "load", "report", "notify", "archive")
BACKGROUND_TASKS = ("send-mail", "resize-image", "index-document", "call-webhook")
TAGS = (("etl", 0.45), ("nightly", 0.25), ("critical", 0.1), ("backfill", 0.08), ("gpu", 0.02))
"""Tags, and the share of task runs that have each tag."""
COMMON_TAG, RARE_TAG = "etl", "gpu"

SECOND = 1_000_000
"""Offsets are counted in microseconds from BEGIN."""
RETRY_SECONDS = 30.0
RETRIED = TaskRunPolicy(retries=2, retry_delay_seconds=[RETRY_SECONDS])

_S, _P, _R, _C, _F = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.COMPLETED,
    StateType.FAILED,
)
History = tuple[tuple[StateType, str], ...]
"""The types and names of a run's states, in order."""

_SCHEDULED, _PENDING, _RUNNING = (_S, "Scheduled"), (_P, "Pending"), (_R, "Running")
_COMPLETED, _FAILED, _AWAITING_RETRY, _RETRYING = (
    (_C, "Completed"),
    (_F, "Failed"),
    (_S, "AwaitingRetry"),
    (_R, "Retrying"),
)

_FINISHED_HISTORIES: tuple[tuple[History, float], ...] = (
    ((_PENDING, _RUNNING, _COMPLETED), 0.92),
    ((_PENDING, _RUNNING, _FAILED), 0.08),
)
_ACTIVE_HISTORIES: tuple[tuple[History, float], ...] = (
    ((_PENDING, _RUNNING, _COMPLETED), 0.4),
    ((_PENDING, _RUNNING), 0.2),
    ((_PENDING, _RUNNING, _AWAITING_RETRY, _RETRYING), 0.05),
    ((_PENDING, _RUNNING, _AWAITING_RETRY), 0.15),
    ((_SCHEDULED, _PENDING), 0.2),
)
_BACKGROUND_HISTORIES: tuple[tuple[History, float], ...] = (
    ((_SCHEDULED, _PENDING, _RUNNING, _COMPLETED), 0.8),
    ((_SCHEDULED, _PENDING, _RUNNING, _FAILED), 0.06),
    ((_SCHEDULED, _PENDING, _RUNNING), 0.04),
    ((_SCHEDULED, _RUNNING, _AWAITING_RETRY), 0.06),
    ((_SCHEDULED, _PENDING), 0.04),
)


@dataclass(frozen=True, slots=True)
class PopulationSize:
    """The number of rows to generate."""

    task_runs: int = 20_000
    """Task runs in flow runs. Background runs are additional."""
    flow_runs: int = 200
    flows: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows in an order in which they can be inserted: referenced rows come first."""

    flows: list[FlowRecord]
    flow_runs: list[FlowRunRecord]
    flow_run_states: list[StateRecord]
    task_runs: list[TaskRunRecord]
    task_run_states: list[StateRecord]
    queue_entries: list[QueueEntryRecord]


def flow_name(number: int) -> str:
    return f"flow-{number}"


def population(size: PopulationSize) -> Iterator[RowBatch]:
    """Yield the flows, and then one batch for each flow run, in chronological order."""
    generator = _Generator(Random(size.seed))  # noqa: S311 - generates rows, not secrets
    flows = [generator.flow(number) for number in range(size.flows)]
    yield RowBatch(flows, [], [], [], [], [])
    width = DAYS * 86_400 * SECOND // size.flow_runs
    for number in range(size.flow_runs):
        first, last = (size.task_runs * each // size.flow_runs for each in (number, number + 1))
        has_ended = number < size.flow_runs - max(1, size.flow_runs // FLOW_RUNS_PER_ACTIVE_RUN)
        yield generator.flow_run_rows(
            flows[number % size.flows], number, range(first, last), number * width, width, has_ended
        )


class _Generator:
    """Generates all rows with one random number generator."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def flow(self, number: int) -> FlowRecord:
        now = _timestamp_at(0)
        return FlowRecord(self._id(0), now, now, flow_name(number), to_json(["team-a" if number % 2 else "team-b"]))

    def flow_run_rows(
        self, flow: FlowRecord, number: int, numbers: range, begin: int, width: int, has_ended: bool
    ) -> RowBatch:
        """Generate a flow run that begins at `begin`, a task run for each of `numbers`, and some background runs."""
        batch = RowBatch([], [], [], [], [], [])
        flow_run = self._flow_run(flow, number, begin)
        step = max(1, (width - 2 * SECOND) // max(1, len(numbers)))
        last = begin
        for index, each in enumerate(numbers):
            offset = begin + 2 * SECOND + index * step + self._random.randrange(step)
            history = self._choose(_FINISHED_HISTORIES if has_ended else _ACTIVE_HISTORIES)
            run = self._task_run(TASKS[each % len(TASKS)], each, offset, history, flow_run.id)
            last = max(last, self._add_run(batch, run, history, offset))
            if each % FLOW_TASK_RUNS_PER_BACKGROUND_RUN == 0:
                history = self._choose(_BACKGROUND_HISTORIES)
                key = BACKGROUND_TASKS[each // FLOW_TASK_RUNS_PER_BACKGROUND_RUN % len(BACKGROUND_TASKS)]
                self._add_run(batch, self._task_run(key, each, offset, history, None), history, offset)
        batch.flow_runs.append(flow_run)
        offsets = [begin, begin + SECOND, last + SECOND]
        states = [_PENDING, _RUNNING, self._choose(((_COMPLETED, 0.9), (_FAILED, 0.1)))]
        for (type, name), offset in list(zip(states, offsets, strict=True))[: 3 if has_ended else 2]:
            details = StateDetails(flow_run_id=flow_run.id)
            batch.flow_run_states.append(self._enter_state(flow_run, type, name, offset, details))
        return batch

    def _add_run(self, batch: RowBatch, run: TaskRunRecord, history: History, offset: int) -> int:
        """Add the run to the batch with its history from `offset` on, and return the offset of its last state."""
        details = StateDetails()
        for index, (type, name) in enumerate(history):
            if index:
                offset += self._state_duration(history[index - 1][1])
            scheduled_time = None
            if name == "AwaitingRetry":
                scheduled_time = _timestamp_at(offset + int(RETRY_SECONDS * SECOND))
            elif name == "Scheduled":
                scheduled_time = _timestamp_at(offset)
            elif name == "Pending":
                scheduled_time = details.scheduled_time
            details = StateDetails(run.flow_run_id, run.id, scheduled_time=scheduled_time)
            batch.task_run_states.append(self._enter_state(run, type, name, offset, details))
            if type is _R and run.flow_run_id is not None:
                run.flow_run_run_count = 1
        batch.task_runs.append(run)
        if run.flow_run_id is None and run.state_type is _S:
            queue_changes = QueueChanges()
            queue_changes.apply_state(run, batch.task_run_states[-1], None, None)
            (entry,) = queue_changes.inserted
            # The run was delivered once, and failed.
            entry.attempt = 1
            batch.queue_entries.append(entry)
        return offset

    def _state_duration(self, name: str) -> int:
        """Return the duration of a state of this name, in microseconds."""
        if name in ("Running", "Retrying"):
            return int(min(self._random.expovariate(1 / 20), 600) * SECOND) + 1000
        if name == "AwaitingRetry":
            return int((RETRY_SECONDS + self._random.random()) * SECOND)
        return int(self._random.expovariate(1 / 2) * SECOND) + 1000

    def _enter_state(
        self, run: RunRecord, type: StateType, name: str, offset: int, details: StateDetails
    ) -> StateRecord:
        """Create the state, and update the run's times and counts accordingly."""
        now = _timestamp_at(offset)
        if run.state_type is _R and run.state_timestamp is not None:
            run.total_run_time_seconds += (offset - _offset_of(run.state_timestamp)) / SECOND
        if type is _R:
            run.run_count += 1
            run.start_time = run.start_time or now
        if type in TERMINAL:
            run.end_time = now
        run.expected_start_time = run.expected_start_time or details.scheduled_time or now
        run.next_scheduled_start_time = details.scheduled_time if type is _S else None
        state = StateRecord(
            id=self._id(offset, 1),
            run_id=run.id,
            type=type,
            name=name,
            timestamp=now,
            message="The task raised an exception: ValueError('no such row')" if type is _F else None,
            data=f'{{"rows":{self._random.randrange(10_000)}}}' if type is _C else None,
            details_json=details.to_json(),
            transition_id=None,
        )
        run.state_id, run.state_type, run.state_name, run.state_timestamp = state.id, type, name, now
        run.updated = now
        return state

    def _task_run(self, key: str, number: int, offset: int, history: History, flow_run_id: str | None) -> TaskRunRecord:
        new = NewTaskRun(
            key,
            str(number),
            flow_run_id,
            f"{key}-{number}",
            retry_policy=RETRIED if _AWAITING_RETRY in history else TaskRunPolicy(),
            tags=[tag for tag, probability in TAGS if self._random.random() < probability],
            parameters=f'{{"customer":{self._random.randrange(1000)},"region":"eu"}}',
        )
        run = build_task_run(new, _timestamp_at(offset))
        run.id = self._id(offset)
        return run

    def _flow_run(self, flow: FlowRecord, number: int, offset: int) -> FlowRunRecord:
        now = _timestamp_at(offset)
        return FlowRunRecord(
            id=self._id(offset),
            created=now,
            updated=now,
            name=f"{flow.name}-{number}",
            tags_json=flow.tags_json,
            state_id=None,
            state_type=None,
            state_name=None,
            state_timestamp=None,
            run_count=0,
            expected_start_time=None,
            next_scheduled_start_time=None,
            start_time=None,
            end_time=None,
            total_run_time_seconds=0.0,
            flow_id=flow.id,
            deployment_id=None,
            work_queue_name=None,
            flow_version="1",
            idempotency_key=None,
            parameters='{"day":"today"}',
            context="{}",
            retries=None,
            retry_delay_seconds=None,
            pause_keys_json="[]",
            resuming=False,
            parent_task_run_id=None,
        )

    def _choose(self, choices: Sequence[tuple[T, float]]) -> T:
        return self._random.choices([value for value, _ in choices], [probability for _, probability in choices])[0]

    def _id(self, offset: int, count: int = 0) -> str:
        """Generate an id as `db.runtime.ids.new_id` does: milliseconds, a count within one, and random bits."""
        head = f"{_EPOCH_MILLISECONDS + offset // 1000:012x}"
        tail = 1 << 63 | self._random.getrandbits(62)
        rest = f"{tail:016x}"
        return f"{head[:8]}-{head[8:]}-7{count:03x}-{rest[:4]}-{rest[4:]}"


_EPOCH_MILLISECONDS = int(BEGIN.timestamp() * 1000)
_MICROSECOND = timedelta(microseconds=1)


def _timestamp_at(offset: int) -> str:
    return format_timestamp(BEGIN + timedelta(microseconds=offset))


def _offset_of(text: str) -> int:
    return (datetime.fromisoformat(text) - BEGIN) // _MICROSECOND
