"""A history counts and sums what the records of its runs say, whatever they have been through."""

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import orjson
import pytest

from db.connection import Connection
from db.enums import StateType
from db.records import TaskRunRecord
from db.runtime.timestamps import instant, seconds_after
from db.statements.task_runs import insert_task_runs
from resolvers.history import Figure, Part, Pattern, read_history, split_span, written_history
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

    history = await database.read(lambda connection: read_history(connection, filter, span))

    expected: dict[tuple[int, StateType, str], list[TaskRunRecord]] = defaultdict(list)
    for run in runs:
        for number, (start, end) in enumerate(pairwise(span.instants)):
            if run.state_type and run.state_name and run.expected_start_time and start <= run.expected_start_time < end:
                expected[number, run.state_type, run.state_name].append(run)
    assert len(expected) > 300
    assert [(each.start, each.end) for each in history] == list(pairwise(span.instants))
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
    intervals = list(pairwise(span.instants))
    moments = [moment for start, end in intervals for moment in (start, seconds_after(end, -0.000_001))]
    runs: list[TaskRunRecord] = []
    for number, moment in enumerate(moments):
        run = blank_task_run(NewTaskRun("t", str(number)), instant(START))
        run.state_type, run.state_name, run.expected_start_time = StateType.PENDING, "Pending", moment
        runs.append(run)
    await server.life.database.write(insert, runs)
    filter = {"id": {"any": [run.id for run in runs]}} if by_id else {}

    found = await server.life.database.read(lambda connection: read_history(connection, filter, span))

    assert [[state.count_runs for state in each.states] for each in found] == [[2]] * len(intervals)


# --- how it is written ---


@pytest.mark.parametrize(
    "seconds",
    [
        0.0,
        5.0,
        0.5,
        0.1,
        12_345.678901,
        1e-4,
        9.99e-5,
        5e-6,
        1.5e-7,
        99_999_999_999_999.5,
        1e14,
        1e15,
        1e16,
        1.25e22,
        1e300,
    ],
)
async def test_a_sum_is_written_as_every_other_number_is(server: Serving, seconds: float) -> None:
    run = blank_task_run(NewTaskRun("t", "d"), instant(START))
    run.state_type, run.state_name, run.expected_start_time = StateType.COMPLETED, "Completed", instant(START)
    run.total_run_time_seconds = seconds
    await server.life.database.write(insert, [run])
    of_interval: Pattern[Part] = Pattern("%s", ("states",))
    of_kind: Pattern[Figure] = Pattern("%s", ("run_time",))
    span = split_span(instant(START), seconds_after(instant(START), 60), 60)

    written = await server.life.database.read(
        lambda connection: written_history(connection, {}, span, of_interval, of_kind)
    )

    assert written == orjson.dumps([seconds]).decode()


async def test_a_sum_that_no_run_can_come_to_is_no_answer(server: Serving) -> None:
    run = blank_task_run(NewTaskRun("t", "d"), instant(START))
    run.state_type, run.state_name, run.expected_start_time = StateType.COMPLETED, "Completed", instant(START)
    run.total_run_time_seconds = float("inf")
    await server.life.database.write(insert, [run])
    span = split_span(instant(START), seconds_after(instant(START), 60), 60)

    with pytest.raises(ValueError, match="has come to inf"):
        await server.life.database.read(lambda connection: read_history(connection, {}, span))
