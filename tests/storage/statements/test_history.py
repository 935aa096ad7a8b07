"""Task run history: its counts and sums equal those computed from the records."""

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
from db.runtime.timestamps import format_timestamp, seconds_after
from db.statements.task_runs import insert_task_runs
from resolvers.history import IntervalField, JsonPattern, StateField, history_json, read_history, split_span
from resolvers.task_runs import NewTaskRun, build_task_run
from tests.clock import START
from tests.serving import RunningServer


def random_runs(count: int) -> list[TaskRunRecord]:
    """Return random runs near the start of the clock, some on whole minutes, some without a state or a time."""
    chance = random.Random(7)  # noqa: S311

    def timestamp(offset: float) -> str:
        return format_timestamp(START + timedelta(seconds=chance.choice([round(offset / 60) * 60, offset])))

    runs: list[TaskRunRecord] = []
    for number in range(count):
        run = build_task_run(NewTaskRun("t", str(number)), format_timestamp(START))
        run.state_type = chance.choice([None, *StateType])
        run.state_name = run.state_type and chance.choice([run.state_type.default_name, "Zed"])
        run.state_timestamp = run.state_type and timestamp(chance.uniform(-600, 0))
        run.expected_start_time = chance.choice([None, *[timestamp(chance.uniform(-600, 600)) for _ in range(9)]])
        run.start_time = chance.choice([None, timestamp(chance.uniform(-600, 600))])
        run.total_run_time_seconds = chance.uniform(-10, 100)
        run.read_at = format_timestamp(START)
        runs.append(run)
    return runs


def insert(connection: Connection, batches: Sequence[list[TaskRunRecord]]) -> list[Exception | None]:
    for batch in batches:
        insert_task_runs(connection, batch)
    return [None] * len(batches)


@pytest.mark.parametrize("by_id", [False, True])
async def test_counts_and_sums_equal_those_of_the_records(server: RunningServer, by_id: bool) -> None:
    database, runs = server.services.database, random_runs(1000)
    await database.write(insert, runs)
    filter = {"id": {"in": [run.id for run in runs]}} if by_id else {}
    # Some intervals start on whole minutes, as some runs do.
    span = split_span(
        format_timestamp(START - timedelta(seconds=540)), format_timestamp(START + timedelta(seconds=540)), 37.5
    )

    history = await database.read(lambda connection: read_history(connection, filter, span))

    expected: dict[tuple[int, StateType, str], list[TaskRunRecord]] = defaultdict(list)
    for run in runs:
        for number, (start, end) in enumerate(pairwise(span.boundaries)):
            if run.state_type and run.state_name and run.expected_start_time and start <= run.expected_start_time < end:
                expected[number, run.state_type, run.state_name].append(run)
    assert len(expected) > 300
    assert [(each.start, each.end) for each in history] == list(pairwise(span.boundaries))
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
async def test_each_microsecond_belongs_to_exactly_one_interval(
    server: RunningServer, start: str, end: str, seconds: float, by_id: bool
) -> None:
    span = split_span(start, end, seconds)
    intervals = list(pairwise(span.boundaries))
    timestamps = [timestamp for start, end in intervals for timestamp in (start, seconds_after(end, -0.000_001))]
    runs: list[TaskRunRecord] = []
    for number, timestamp in enumerate(timestamps):
        run = build_task_run(NewTaskRun("t", str(number)), format_timestamp(START))
        run.state_type, run.state_name, run.expected_start_time = StateType.PENDING, "Pending", timestamp
        runs.append(run)
    await server.services.database.write(insert, runs)
    filter = {"id": {"in": [run.id for run in runs]}} if by_id else {}

    found = await server.services.database.read(lambda connection: read_history(connection, filter, span))

    assert [[state.count_runs for state in each.states] for each in found] == [[2]] * len(intervals)


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
async def test_sums_are_formatted_like_other_json_numbers(server: RunningServer, seconds: float) -> None:
    run = build_task_run(NewTaskRun("t", "d"), format_timestamp(START))
    run.state_type, run.state_name, run.expected_start_time = StateType.COMPLETED, "Completed", format_timestamp(START)
    run.total_run_time_seconds = seconds
    await server.services.database.write(insert, [run])
    of_interval: JsonPattern[IntervalField] = JsonPattern("%s", ("states",))
    of_kind: JsonPattern[StateField] = JsonPattern("%s", ("run_time",))
    span = split_span(format_timestamp(START), seconds_after(format_timestamp(START), 60), 60)

    written = await server.services.database.read(
        lambda connection: history_json(connection, {}, span, of_interval, of_kind)
    )

    assert written == orjson.dumps([seconds]).decode()


async def test_an_infinite_sum_raises_an_error(server: RunningServer) -> None:
    run = build_task_run(NewTaskRun("t", "d"), format_timestamp(START))
    run.state_type, run.state_name, run.expected_start_time = StateType.COMPLETED, "Completed", format_timestamp(START)
    run.total_run_time_seconds = float("inf")
    await server.services.database.write(insert, [run])
    span = split_span(format_timestamp(START), seconds_after(format_timestamp(START), 60), 60)

    with pytest.raises(ValueError, match="history contains inf"):
        await server.services.database.read(lambda connection: read_history(connection, {}, span))
