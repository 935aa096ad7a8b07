"""A week of work, made up: flows, their runs and task runs with their whole histories, as the server would have kept them.

The same for the same seed, with ids and all. Nothing here knows which database it is for: `benchmarks.seed` writes it.
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
from db.runtime.timestamps import instant
from resolvers.queue.entries import Placements
from resolvers.task_runs import NewTaskRun, blank_task_run

Choice = TypeVar("Choice")

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 7
END = BEGIN + timedelta(days=DAYS)

BACKGROUND_SHARE = 10
"""One task run in the background for so many in flow runs, beside them."""
ACTIVE_SHARE = 4
"""Of so many flow runs the last one is still RUNNING."""

TASKS = ("extract", "validate", "transform", "enrich", "load", "report", "notify", "archive")
BACKGROUND_TASKS = ("send-mail", "resize-image", "index-document", "call-webhook")
TAGS = (("etl", 0.45), ("nightly", 0.25), ("critical", 0.1), ("backfill", 0.08), ("gpu", 0.02))
"""Each tag and the share of task runs that have it."""
COMMON_TAG, RARE_TAG = "etl", "gpu"

SECOND = 1_000_000
"""Moments are counted in microseconds from BEGIN."""
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
"""The types and names of a run's states."""

_SCHEDULED, _PENDING, _RUNNING = (_S, "Scheduled"), (_P, "Pending"), (_R, "Running")
_COMPLETED, _FAILED, _AGAIN, _RETRYING = (_C, "Completed"), (_F, "Failed"), (_S, "AwaitingRetry"), (_R, "Retrying")

_OVER: tuple[tuple[History, float], ...] = (
    ((_PENDING, _RUNNING, _COMPLETED), 0.92),
    ((_PENDING, _RUNNING, _FAILED), 0.08),
)
_UNDER_WAY: tuple[tuple[History, float], ...] = (
    ((_PENDING, _RUNNING, _COMPLETED), 0.4),
    ((_PENDING, _RUNNING), 0.2),
    ((_PENDING, _RUNNING, _AGAIN, _RETRYING), 0.05),
    ((_PENDING, _RUNNING, _AGAIN), 0.15),
    ((_SCHEDULED, _PENDING), 0.2),
)
_IN_BACKGROUND: tuple[tuple[History, float], ...] = (
    ((_SCHEDULED, _PENDING, _RUNNING, _COMPLETED), 0.8),
    ((_SCHEDULED, _PENDING, _RUNNING, _FAILED), 0.06),
    ((_SCHEDULED, _PENDING, _RUNNING), 0.04),
    ((_SCHEDULED, _RUNNING, _AGAIN), 0.06),
    ((_SCHEDULED, _PENDING), 0.04),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    task_runs: int = 20_000
    """In flow runs; those in the background come on top."""
    flow_runs: int = 200
    flows: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Rows in the order in which they can be written: what others name comes first."""

    flows: list[FlowRecord]
    flow_runs: list[FlowRunRecord]
    flow_run_states: list[StateRecord]
    task_runs: list[TaskRunRecord]
    task_run_states: list[StateRecord]
    queue_entries: list[QueueEntryRecord]


def flow_name(number: int) -> str:
    return f"flow-{number}"


def population(size: Size) -> Iterator[Part]:
    """The flows, and then one part for each flow run, in the order of time."""
    maker = _Maker(Random(size.seed))  # noqa: S311 - makes rows, keeps no secret
    flows = [maker.flow(number) for number in range(size.flows)]
    yield Part(flows, [], [], [], [], [])
    width = DAYS * 86_400 * SECOND // size.flow_runs
    for number in range(size.flow_runs):
        first, last = (size.task_runs * each // size.flow_runs for each in (number, number + 1))
        is_over = number < size.flow_runs - max(1, size.flow_runs // ACTIVE_SHARE)
        yield maker.part(flows[number % size.flows], number, range(first, last), number * width, width, is_over)


class _Maker:
    """Draws everything from one source of chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def flow(self, number: int) -> FlowRecord:
        now = _instant(0)
        return FlowRecord(self._id(0), now, now, flow_name(number), to_json(["team-a" if number % 2 else "team-b"]))

    def part(self, flow: FlowRecord, number: int, numbers: range, begin: int, width: int, is_over: bool) -> Part:
        """A flow run that begins at the moment `begin` with a task run for each of `numbers`, and some in the background."""
        part = Part([], [], [], [], [], [])
        flow_run = self._flow_run(flow, number, begin)
        step = max(1, (width - 2 * SECOND) // max(1, len(numbers)))
        last = begin
        for place, each in enumerate(numbers):
            moment = begin + 2 * SECOND + place * step + self._chance.randrange(step)
            history = self._draw(_OVER if is_over else _UNDER_WAY)
            run = self._task_run(TASKS[each % len(TASKS)], each, moment, history, flow_run.id)
            last = max(last, self._live(part, run, history, moment))
            if each % BACKGROUND_SHARE == 0:
                history = self._draw(_IN_BACKGROUND)
                key = BACKGROUND_TASKS[each // BACKGROUND_SHARE % len(BACKGROUND_TASKS)]
                self._live(part, self._task_run(key, each, moment, history, None), history, moment)
        part.flow_runs.append(flow_run)
        moments = [begin, begin + SECOND, last + SECOND]
        states = [_PENDING, _RUNNING, self._draw(((_COMPLETED, 0.9), (_FAILED, 0.1)))]
        for (type, name), moment in list(zip(states, moments, strict=True))[: 3 if is_over else 2]:
            details = StateDetails(flow_run_id=flow_run.id)
            part.flow_run_states.append(self._enter(flow_run, type, name, moment, details))
        return part

    def _live(self, part: Part, run: TaskRunRecord, history: History, moment: int) -> int:
        """Take the run through its history, from `moment` on, into the part; the moment of its last state."""
        details = StateDetails()
        for place, (type, name) in enumerate(history):
            if place:
                moment += self._pause(history[place - 1][1])
            scheduled_time = None
            if name == "AwaitingRetry":
                scheduled_time = _instant(moment + int(RETRY_SECONDS * SECOND))
            elif name == "Scheduled":
                scheduled_time = _instant(moment)
            elif name == "Pending":
                scheduled_time = details.scheduled_time
            details = StateDetails(run.flow_run_id, run.id, scheduled_time=scheduled_time)
            part.task_run_states.append(self._enter(run, type, name, moment, details))
            if type is _R and run.flow_run_id is not None:
                run.flow_run_run_count = 1
        part.task_runs.append(run)
        if run.flow_run_id is None and run.state_type is _S:
            placements = Placements()
            placements.follow(run, part.task_run_states[-1], None, None)
            (entry,) = placements.inserted
            # It has been delivered once, and has failed.
            entry.attempt = 1
            part.queue_entries.append(entry)
        return moment

    def _pause(self, name: str) -> int:
        """How long a state of this name lasts."""
        if name in ("Running", "Retrying"):
            return int(min(self._chance.expovariate(1 / 20), 600) * SECOND) + 1000
        if name == "AwaitingRetry":
            return int((RETRY_SECONDS + self._chance.random()) * SECOND)
        return int(self._chance.expovariate(1 / 2) * SECOND) + 1000

    def _enter(self, run: RunRecord, type: StateType, name: str, moment: int, details: StateDetails) -> StateRecord:
        """The state, and its traces in the run's figures."""
        now = _instant(moment)
        if run.state_type is _R and run.state_timestamp is not None:
            run.total_run_time_seconds += (moment - _moment(run.state_timestamp)) / SECOND
        if type is _R:
            run.run_count += 1
            run.start_time = run.start_time or now
        if type in TERMINAL:
            run.end_time = now
        run.expected_start_time = run.expected_start_time or details.scheduled_time or now
        run.next_scheduled_start_time = details.scheduled_time if type is _S else None
        state = StateRecord(
            id=self._id(moment, 1),
            run_id=run.id,
            type=type,
            name=name,
            timestamp=now,
            message="The task raised an exception: ValueError('no such row')" if type is _F else None,
            data=f'{{"rows":{self._chance.randrange(10_000)}}}' if type is _C else None,
            details_json=details.to_json(),
            transition_id=None,
        )
        run.state_id, run.state_type, run.state_name, run.state_timestamp = state.id, type, name, now
        run.updated = now
        return state

    def _task_run(self, key: str, number: int, moment: int, history: History, flow_run_id: str | None) -> TaskRunRecord:
        new = NewTaskRun(
            key,
            str(number),
            flow_run_id,
            f"{key}-{number}",
            policy=RETRIED if _AGAIN in history else TaskRunPolicy(),
            tags=[tag for tag, share in TAGS if self._chance.random() < share],
            parameters=f'{{"customer":{self._chance.randrange(1000)},"region":"eu"}}',
        )
        run = blank_task_run(new, _instant(moment))
        run.id = self._id(moment)
        return run

    def _flow_run(self, flow: FlowRecord, number: int, moment: int) -> FlowRunRecord:
        now = _instant(moment)
        return FlowRunRecord(
            id=self._id(moment),
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

    def _draw(self, choices: Sequence[tuple[Choice, float]]) -> Choice:
        return self._chance.choices([value for value, _ in choices], [weight for _, weight in choices])[0]

    def _id(self, moment: int, count: int = 0) -> str:
        """As `db.runtime.ids.new_id` makes them: milliseconds, a count within one, and chance."""
        head = f"{_EPOCH_MILLISECONDS + moment // 1000:012x}"
        tail = 1 << 63 | self._chance.getrandbits(62)
        rest = f"{tail:016x}"
        return f"{head[:8]}-{head[8:]}-7{count:03x}-{rest[:4]}-{rest[4:]}"


_EPOCH_MILLISECONDS = int(BEGIN.timestamp() * 1000)
_MICROSECOND = timedelta(microseconds=1)


def _instant(moment: int) -> str:
    return instant(BEGIN + timedelta(microseconds=moment))


def _moment(text: str) -> int:
    return (datetime.fromisoformat(text) - BEGIN) // _MICROSECOND
