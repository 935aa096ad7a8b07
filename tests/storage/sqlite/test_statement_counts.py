"""Statement counts on SQLite: an operation takes a constant number of statements, for one item or a hundred."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import pytest

from db.connection import NOTHING, Row, SQLiteConnection
from db.database import WriteOperation
from db.enums import StateType
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement
from resolvers.bulk_changes.pages import BulkChange
from resolvers.bulk_changes.task_runs import change_task_runs
from resolvers.bulk_changes.verbs import Cancellation, Rescheduling, Retry, TaskRunVerb
from resolvers.concurrency_limits import LimitReset, LimitSetting, reset_limits, set_limits
from resolvers.delivery.claim import LOOKAHEAD, Claim, claim_due_runs
from resolvers.delivery.lease_recovery import release_unconfirmed
from resolvers.delivery.leases import acknowledge_leases, release_unacknowledged
from resolvers.delivery.progress_reports import ProgressReport, report_progress
from resolvers.history import read_history, split_span
from resolvers.queue.capacity import QueueCapacity
from resolvers.task_run_updates import TaskRunUpdate, update_task_runs
from resolvers.task_runs import (
    NewTaskRun,
    create_all_task_runs,
    create_task_runs,
    delete_task_runs,
)
from resolvers.transitions.set_states import StateChange, set_task_run_states
from resolvers.write_operations import CapacityCheckedWrites
from tests.builders.rows import claim, claim_request, make_flow_run, make_task_runs, new_task_runs
from tests.builders.transitions import propose
from tests.clock import START

Item = TypeVar("Item")
Result = TypeVar("Result")

SIZES = pytest.mark.parametrize("size", [1, 100])


def count_statements(
    connection: SQLiteConnection, operation: WriteOperation[Item, Result], items: Sequence[Item]
) -> int:
    """Execute the operation, which must refuse no item, and return the number of statements."""
    before = connection.statements
    results = operation(connection, items)
    assert len(results) == len(items)
    assert not any(isinstance(result, Exception) for result in results)
    return connection.statements - before


class RecordingConnection(SQLiteConnection):
    """A connection that records how many rows each statement returns."""

    def __init__(self, raw: sqlite3.Connection, now: str) -> None:
        super().__init__(raw, now)
        self.row_counts: list[int] = []

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        rows = super().fetch(statement, parameters)
        self.row_counts.append(len(rows))
        return rows


def changes(ids: Sequence[str], type: StateType, leases: Sequence[str | None] | None = None) -> list[StateChange]:
    return [
        StateChange(id, propose(type), lease_id=lease)
        for id, lease in zip(ids, leases or [None] * len(ids), strict=True)
    ]


@SIZES
def test_creating_background_runs_takes_three_statements(connection: SQLiteConnection, size: int) -> None:
    assert count_statements(connection, create_task_runs, new_task_runs(size)) == 3


@SIZES
def test_concurrency_limits_are_read_only_for_runs_created_running(connection: SQLiteConnection, size: int) -> None:
    pending = [NewTaskRun("t", f"p{number}", tags=["a"]) for number in range(size)]
    running = [NewTaskRun("t", f"r{n}", tags=["a"], state=propose(StateType.RUNNING)) for n in range(size)]

    assert count_statements(connection, create_task_runs, pending) == 3
    assert count_statements(connection, create_task_runs, running) == 4


@SIZES
def test_creating_queued_runs_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    assert count_statements(connection, create_task_runs, new_task_runs(size, StateType.SCHEDULED)) == 4


@SIZES
def test_creating_runs_of_a_flow_run_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    wanted = new_task_runs(size, flow_run_id=make_flow_run(connection))

    assert count_statements(connection, create_task_runs, wanted) == 4


@SIZES
def test_creating_runs_of_both_kinds_takes_six_statements(connection: SQLiteConnection, size: int) -> None:
    in_flow_run = new_task_runs(size, flow_run_id=make_flow_run(connection))

    assert count_statements(connection, create_task_runs, in_flow_run + new_task_runs(size, StateType.SCHEDULED)) == 6


@SIZES
def test_resetting_limits_takes_seven_statements(connection: SQLiteConnection, size: int) -> None:
    tags = [f"x{number}" for number in range(size)]
    set_limits(connection, [LimitSetting(tag, 5) for tag in tags])
    before, after = make_task_runs(connection, new_task_runs(2))
    reset_limits(connection, [LimitReset(tag, [before]) for tag in tags])

    assert count_statements(connection, reset_limits, [LimitReset(tag, [after]) for tag in tags]) == 7


@SIZES
def test_finding_existing_runs_takes_one_statement(connection: SQLiteConnection, size: int) -> None:
    wanted = new_task_runs(size)
    create_task_runs(connection, wanted)

    assert count_statements(connection, create_task_runs, wanted) == 1


@SIZES
def test_creating_a_batch_atomically_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    batch: Sequence[NewTaskRun] = new_task_runs(size, StateType.SCHEDULED)

    assert count_statements(connection, create_all_task_runs, [batch]) == 4


@SIZES
def test_a_queue_limit_costs_one_count_at_first_and_none_later(connection: SQLiteConnection, size: int) -> None:
    writes = CapacityCheckedWrites(QueueCapacity(max_scheduled=3 * size, max_retry=size, is_shared=False))

    counts = [
        count_statements(connection, writes.create_task_runs, new_task_runs(size, StateType.SCHEDULED, prefix=prefix))
        for prefix in ("a", "b", "c")
    ]

    assert counts == [5, 4, 4]


def count_statements_of_one(connection: SQLiteConnection, writes: CapacityCheckedWrites, dynamic_key: str) -> int:
    """Create one queued run and return the number of statements."""
    new = NewTaskRun("t", dynamic_key, state=propose(StateType.SCHEDULED))
    return count_statements(connection, writes.create_task_runs, [new])


def test_with_several_servers_half_the_capacity_is_used_between_counts(connection: SQLiteConnection) -> None:
    writes = CapacityCheckedWrites(QueueCapacity(max_scheduled=8, max_retry=8, is_shared=True))

    counts = [count_statements_of_one(connection, writes, str(number)) for number in range(8)]

    assert counts == [5, 4, 4, 4, 5, 4, 5, 5]


def test_with_several_servers_a_count_is_valid_for_one_second(connection: SQLiteConnection) -> None:
    writes = CapacityCheckedWrites(QueueCapacity(max_scheduled=1000, max_retry=8, is_shared=True))
    counts: list[int] = []

    for seconds in ("00.000000", "01.000000", "01.000001", "02.000000"):
        connection.now = f"2030-01-01T12:00:{seconds}Z"
        counts.append(count_statements_of_one(connection, writes, seconds))

    assert counts == [5, 4, 5, 4]


@SIZES
def test_setting_states_takes_three_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.RUNNING)) == 3


@SIZES
def test_setting_states_in_a_flow_run_takes_three_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, flow_run_id=make_flow_run(connection)))

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.RUNNING)) == 3


@SIZES
def test_setting_states_that_queue_runs_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.SCHEDULED)) == 4


@SIZES
def test_setting_states_that_dequeue_runs_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.CANCELLED)) == 4


@SIZES
def test_setting_states_under_leases_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    deliveries = claim(connection, size).deliveries
    ids, leases = [each.task_run.id for each in deliveries], [each.lease_id for each in deliveries]

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.RUNNING, leases)) == 4


@SIZES
def test_setting_refused_states_takes_one_statement(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert count_statements(connection, set_task_run_states, changes(ids, StateType.PENDING)) == 1


def test_setting_two_states_of_one_run_takes_twice_the_statements(connection: SQLiteConnection) -> None:
    ids = make_task_runs(connection, new_task_runs(100))
    twice = changes(ids, StateType.RUNNING) + changes(ids, StateType.COMPLETED)

    assert count_statements(connection, set_task_run_states, twice) == 6


@SIZES
def test_claiming_takes_three_statements(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size + 1, StateType.SCHEDULED))
    before = connection.statements

    claimed = claim(connection, size)

    assert (len(claimed.deliveries), claimed.next_due_at) == (size, {"t": connection.now})
    # After a single run, one more statement reads when the next run is due.
    assert connection.statements - before == (4 if size == 1 else 3)


@pytest.mark.parametrize(("size", "remaining_credit"), [(1, 0), (1, 1), (100, 1)])
def test_claiming_the_last_run_takes_one_more_statement(
    connection: SQLiteConnection, size: int, remaining_credit: int
) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    before = connection.statements

    claimed = claim(connection, size + remaining_credit)

    assert (len(claimed.deliveries), claimed.next_due_at) == (size, {})
    assert connection.statements - before == 4


def start_all(connection: SQLiteConnection, size: int) -> Claim:
    request = claim_request(size, "t")
    starting = replace(request, demands=[replace(each, starts=True) for each in request.demands])
    (claimed,) = claim_due_runs(connection, [starting])
    assert isinstance(claimed, Claim)
    return claimed


@SIZES
def test_claiming_and_starting_takes_two_statements_more(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(3 * size, StateType.SCHEDULED))
    before = connection.statements
    claim(connection, size)
    after_claim = connection.statements

    started = start_all(connection, size)

    assert [each.task_run.state_type for each in started.deliveries] == [StateType.RUNNING] * size
    assert connection.statements - after_claim == after_claim - before + 2


@SIZES
def test_starting_runs_with_limited_tags_takes_ten_statements(connection: SQLiteConnection, size: int) -> None:
    set_limits(connection, [LimitSetting("scarce", size)])
    tagged = [replace(each, tags=("scarce",)) for each in new_task_runs(size, StateType.SCHEDULED)]
    make_task_runs(connection, tagged)
    before = connection.statements

    claimed = start_all(connection, size)

    assert len(claimed.deliveries) == size
    # After a single run, one more statement reads when the next run is due.
    assert connection.statements - before == (11 if size == 1 else 10)


@SIZES
def test_releasing_unconfirmed_runs_takes_six_statements(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in start_all(connection, size).deliveries]

    assert count_statements(connection, release_unacknowledged, leases) == 1
    assert count_statements(connection, release_unconfirmed, leases) == 6


def test_a_claim_for_many_keys_reads_a_share_of_each(connection: SQLiteConnection) -> None:
    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        make_task_runs(connection, new_task_runs(100, StateType.SCHEDULED, task_key=key))
    recording = RecordingConnection(connection.raw, connection.now)

    (claimed,) = claim_due_runs(recording, [claim_request(20, *keys)])

    assert isinstance(claimed, Claim)
    assert Counter(each.task_run.task_key for each in claimed.deliveries) == dict.fromkeys(keys, 2)
    assert recording.row_counts == [10 * (2 + LOOKAHEAD), 20]


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_claim_reads_more_when_one_key_has_most_runs(connection: SQLiteConnection, others: int) -> None:
    busy = make_task_runs(connection, new_task_runs(50, StateType.SCHEDULED, task_key="busy"))
    make_task_runs(connection, new_task_runs(others, StateType.SCHEDULED, task_key="quiet"))
    recording = RecordingConnection(connection.raw, connection.now)

    (claimed,) = claim_due_runs(recording, [claim_request(20, "busy", "idle", "quiet")])

    assert isinstance(claimed, Claim)
    delivered = [each.task_run for each in claimed.deliveries]
    assert [run.id for run in delivered if run.task_key == "busy"] == busy[: 20 - others]
    assert [run.task_key for run in delivered[: 2 * others]] == ["busy", "quiet"] * others
    # The last statement reads when the runs of the other keys are due: there are none left.
    assert recording.row_counts == [7 + LOOKAHEAD + others, 20 + others, 20, 0]


@SIZES
def test_acknowledging_takes_one_statement(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in claim(connection, size).deliveries]

    assert count_statements(connection, acknowledge_leases, leases) == 1


@SIZES
def test_reporting_progress_takes_three_statements_and_one_write(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in claim(connection, size).deliveries]
    acknowledge_leases(connection, leases)
    reports = [ProgressReport(lease_id, done=1, total=None, message=None) for lease_id in leases]

    # The runs of the leases, the queue entries, and the progress.
    assert count_statements(connection, report_progress, reports) == 3


@SIZES
def test_releasing_unacknowledged_runs_takes_two_statements(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in claim(connection, size).deliveries]

    assert count_statements(connection, release_unacknowledged, leases) == 2


@SIZES
def test_renaming_takes_two_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert count_statements(connection, update_task_runs, [TaskRunUpdate(id, "new") for id in ids]) == 2


@SIZES
def test_changing_all_fields_takes_a_constant_number_of_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, [replace(each, tags=["x"]) for each in new_task_runs(size, StateType.SCHEDULED)])
    updates = [TaskRunUpdate(id, "new", ["y"], 1, "{}", "2031-01-01T00:00:00.000000Z") for id in ids]

    # Runs, queue entries, both again for the changes, the limits of the released tags, and runs that wait for them.
    assert count_statements(connection, update_task_runs, updates) == 6


@SIZES
def test_unique_keys_take_one_statement_more(connection: SQLiteConnection, size: int) -> None:
    new = new_task_runs(size, StateType.SCHEDULED)
    without = count_statements(connection, create_task_runs, new)
    with_keys = [replace(each, dynamic_key=f"k-{n}", unique_key=str(n)) for n, each in enumerate(new)]

    assert count_statements(connection, create_task_runs, with_keys) == without + 1


@SIZES
def test_deleting_takes_four_statements(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    claim(connection, size)

    assert count_statements(connection, delete_task_runs, ids) == 4


@pytest.mark.parametrize("size", [1, 500])
def test_reading_a_history_takes_one_statement(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(100))
    before = connection.statements

    history = read_history(
        connection, {}, split_span(connection.now, format_timestamp(START + timedelta(seconds=size)), 1)
    )

    assert [[state.count_runs for state in each.states] for each in history] == [[100], *[[]] * (size - 1)]
    assert connection.statements - before == 1


def test_every_executed_statement_is_counted_and_no_skipped_one(connection: SQLiteConnection) -> None:
    executed: list[str] = []
    connection.raw.set_trace_callback(executed.append)

    create_task_runs(connection, new_task_runs(1))

    assert connection.statements == len(executed) == 3


@SIZES
def test_a_bulk_change_takes_at_most_nine_statements(connection: SQLiteConnection, size: int) -> None:
    set_limits(connection, [LimitSetting("etl", 1000)])
    capacity = QueueCapacity(max_scheduled=1000, max_retry=1000, is_shared=False)
    state, expires_at = propose(StateType.SCHEDULED), format_timestamp(START + timedelta(days=1))
    create_task_runs(
        connection, [NewTaskRun("t", str(n), tags=["etl"], state=state, expires_at=expires_at) for n in range(size)]
    )

    def count(verb: TaskRunVerb) -> int:
        change = BulkChange(verb, {"task_key": {"in": ["t"]}}, size)
        return count_statements(connection, partial(change_task_runs, capacity=capacity), [change])

    # Reads: the page, the runs, limits, slot holders, runs that wait. Writes: states, queue entries, runs.
    assert count(Rescheduling(expires_at)) == 8
    assert count(Cancellation()) == 8
    # Also the holders of unique keys or the depth of the queue, and the expiry.
    assert count(Retry()) == 9
