"""A history counts and sums what the records of its runs say, whatever they have been through."""

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

import pytest

from db.connection import Connection
from db.instants import instant, seconds_after
from db.records import TaskRunRecord
from db.task_runs import insert_task_runs
from db.vocabulary import StateType
from resolvers.history import read_history, recorded, split_span
from resolvers.task_runs import NewTaskRun, blank_task_run
from tests.clock import START
from tests.serving import Serving


def some_runs(count: int) -> list[TaskRunRecord]:
    """Runs around the clock's start, some of them on whole minutes; some without a state, or without a time."""
    chance = random.Random(7)  # noqa: S311

    def moment(offset: float) -> str:
        return instant(START + timedelta(seconds=chance.choice([round(offset / 60) * 60, offset])))

    runs: list[TaskRunRecord] = []
    for number in range(count):
        run = blank_task_run(NewTaskRun("t", str(number)), instant(START))
        run.state_type = chance.choice([None, *StateType])
        run.state_name = run.state_type and chance.choice([run.state_type.default_name, "Zed"])
        run.state_timestamp = run.state_type and moment(chance.uniform(-600, 0))
        run.expected_start_time = chance.choice([None, *[moment(chance.uniform(-600, 600)) for _ in range(9)]])
        run.start_time = chance.choice([None, moment(chance.uniform(-600, 600))])
        run.total_run_time_seconds = chance.uniform(-10, 100)
        run.read_at = instant(START)
        runs.append(run)
    return runs


def insert(connection: Connection, batches: Sequence[list[TaskRunRecord]]) -> list[Exception | None]:
    for batch in batches:
        insert_task_runs(connection, batch)
    return [None] * len(batches)


@pytest.mark.parametrize("by_id", [False, True])
async def test_what_is_counted_and_summed_is_what_the_records_say(server: Serving, by_id: bool) -> None:
    database, runs = server.life.database, some_runs(1000)
    await database.write(insert, runs)
    filter = {"id": {"any": [run.id for run in runs]}} if by_id else {}
    # Some of these begin on whole minutes, as some runs do.
    span = split_span(instant(START - timedelta(seconds=540)), instant(START + timedelta(seconds=540)), 37.5)

    rows = await database.read(lambda connection: read_history(connection, filter, span))
    history = recorded(span.intervals, rows)

    expected: dict[tuple[int, StateType, str], list[TaskRunRecord]] = defaultdict(list)
    for run in runs:
        for number, (start, end) in enumerate(span.intervals):
            if run.state_type and run.state_name and run.expected_start_time and start <= run.expected_start_time < end:
                expected[number, run.state_type, run.state_name].append(run)
    assert len(expected) > 300
    assert [(each.start, each.end) for each in history] == span.intervals
    found = {
        (number, StateType(each.state_type), each.state_name): each
        for number, interval in enumerate(history)
        for each in interval.states
    }
    assert sorted(found) == sorted(expected)
    assert list(found) == sorted(found)
    for key, state in found.items():
        assert state.count_runs == len(expected[key])
        assert state.sum_estimated_run_time_seconds == pytest.approx(
            sum(max(0.0, run.estimated_run_time_seconds) for run in expected[key]), abs=1e-5
        )
        assert state.sum_estimated_lateness_seconds == pytest.approx(
            sum(run.estimated_start_time_delta_seconds for run in expected[key]), abs=1e-5
        )


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", 315_537_897.6 * 2 + 0.000_001),
        ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", 1e300),
        ("2030-01-01T12:00:00.000001Z", "2030-01-01T12:08:00.000000Z", 1.000_001),
    ],
)
async def test_each_microsecond_is_in_one_interval(
    server: Serving, start: str, end: str, seconds: float, by_id: bool
) -> None:
    span = split_span(start, end, seconds)
    moments = [moment for start, end in span.intervals for moment in (start, seconds_after(end, -0.000_001))]
    runs: list[TaskRunRecord] = []
    for number, moment in enumerate(moments):
        run = blank_task_run(NewTaskRun("t", str(number)), instant(START))
        run.state_type, run.state_name, run.expected_start_time = StateType.PENDING, "Pending", moment
        runs.append(run)
    await server.life.database.write(insert, runs)
    filter = {"id": {"any": [run.id for run in runs]}} if by_id else {}

    found = await server.life.database.read(lambda connection: read_history(connection, filter, span))

    ((_, _, places, counts, *_),) = found
    assert dict(zip(places, counts, strict=True)) == dict.fromkeys(range(len(span.intervals)), 2)
