"""A write costs as many statements for a hundred items as for one."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import pytest

from db.connection import NOTHING, Row, SQLiteConnection
from db.database import Operation
from db.enums import StateType
from db.runtime.timestamps import instant
from db.sql.statement import Parameters, Statement
from resolvers.delivery.claim import SPARE, Claim, claim_due_runs
from resolvers.delivery.leases import acknowledge_leases, give_back
from resolvers.history import read_history, split_span
from resolvers.queue.capacity import QueueBounds
from resolvers.task_runs import (
    NewTaskRun,
    TaskRunUpdate,
    create_all_task_runs,
    create_task_runs,
    delete_task_runs,
    update_task_runs,
)
from resolvers.transitions.set_states import StateChange, set_task_run_states
from resolvers.write_operations import BoundedWrites
from tests.builders.rows import claim, make_flow_run, make_task_runs, new_task_runs, proposed, request_for
from tests.clock import START

Item = TypeVar("Item")
Result = TypeVar("Result")

SIZES = pytest.mark.parametrize("size", [1, 100])


def statements(connection: SQLiteConnection, operation: Operation[Item, Result], items: Sequence[Item]) -> int:
    """How many statements the operation takes for these items, none of which it refuses."""
    before = connection.statements
    results = operation(connection, items)
    assert len(results) == len(items)
    assert not any(isinstance(result, Exception) for result in results)
    return connection.statements - before


class WatchingConnection(SQLiteConnection):
    """A connection that tells how many rows each statement has found."""

    def __init__(self, raw: sqlite3.Connection, now: str) -> None:
        super().__init__(raw, now)
        self.fetched: list[int] = []

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        rows = super().fetch(statement, parameters)
        self.fetched.append(len(rows))
        return rows


def changes(ids: Sequence[str], type: StateType, leases: Sequence[str | None] | None = None) -> list[StateChange]:
    return [
        StateChange(id, proposed(type), lease_id=lease)
        for id, lease in zip(ids, leases or [None] * len(ids), strict=True)
    ]


# --- createTaskRun ---


@SIZES
def test_creating_background_runs_takes_three(connection: SQLiteConnection, size: int) -> None:
    assert statements(connection, create_task_runs, new_task_runs(size)) == 3


@SIZES
def test_limits_are_looked_at_for_those_alone_that_are_to_run_at_once(connection: SQLiteConnection, size: int) -> None:
    pending = [NewTaskRun("t", f"p{number}", tags=["a"]) for number in range(size)]
    running = [NewTaskRun("t", f"r{n}", tags=["a"], state=proposed(StateType.RUNNING)) for n in range(size)]

    assert statements(connection, create_task_runs, pending) == 3
    assert statements(connection, create_task_runs, running) == 4


@SIZES
def test_creating_runs_that_are_queued_takes_four(connection: SQLiteConnection, size: int) -> None:
    assert statements(connection, create_task_runs, new_task_runs(size, StateType.SCHEDULED)) == 4


@SIZES
def test_creating_runs_of_a_flow_run_takes_four(connection: SQLiteConnection, size: int) -> None:
    wanted = new_task_runs(size, flow_run_id=make_flow_run(connection))

    assert statements(connection, create_task_runs, wanted) == 4


@SIZES
def test_creating_runs_of_each_kind_takes_six(connection: SQLiteConnection, size: int) -> None:
    in_flow_run = new_task_runs(size, flow_run_id=make_flow_run(connection))

    assert statements(connection, create_task_runs, in_flow_run + new_task_runs(size, StateType.SCHEDULED)) == 6


@SIZES
def test_finding_runs_that_are_there_takes_one(connection: SQLiteConnection, size: int) -> None:
    wanted = new_task_runs(size)
    create_task_runs(connection, wanted)

    assert statements(connection, create_task_runs, wanted) == 1


@SIZES
def test_creating_all_or_none_takes_no_more(connection: SQLiteConnection, size: int) -> None:
    batch: Sequence[NewTaskRun] = new_task_runs(size, StateType.SCHEDULED)

    assert statements(connection, create_all_task_runs, [batch]) == 4


@SIZES
def test_keeping_a_queue_within_its_bounds_takes_a_count_at_first_and_then_no_more(
    connection: SQLiteConnection, size: int
) -> None:
    writes = BoundedWrites(QueueBounds(max_scheduled=3 * size, max_retry=size, is_shared=False))

    taken = [
        statements(connection, writes.create_task_runs, new_task_runs(size, StateType.SCHEDULED, prefix=prefix))
        for prefix in ("a", "b", "c")
    ]

    assert taken == [5, 4, 4]


def taken_by_one(connection: SQLiteConnection, writes: BoundedWrites, dynamic_key: str) -> int:
    """How many statements it takes to create one run that is queued."""
    new = NewTaskRun("t", dynamic_key, state=proposed(StateType.SCHEDULED))
    return statements(connection, writes.create_task_runs, [new])


def test_where_other_servers_add_too_half_of_the_room_is_used_without_counting(connection: SQLiteConnection) -> None:
    writes = BoundedWrites(QueueBounds(max_scheduled=8, max_retry=8, is_shared=True))

    taken = [taken_by_one(connection, writes, str(number)) for number in range(8)]

    assert taken == [5, 4, 4, 4, 5, 4, 5, 5]


def test_where_other_servers_add_too_a_count_is_good_for_a_second(connection: SQLiteConnection) -> None:
    writes = BoundedWrites(QueueBounds(max_scheduled=1000, max_retry=8, is_shared=True))
    taken: list[int] = []

    for seconds in ("00.000000", "01.000000", "01.000001", "02.000000"):
        connection.now = f"2030-01-01T12:00:{seconds}Z"
        taken.append(taken_by_one(connection, writes, seconds))

    assert taken == [5, 4, 5, 4]


# --- setTaskRunState ---


@SIZES
def test_setting_states_takes_three(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert statements(connection, set_task_run_states, changes(ids, StateType.RUNNING)) == 3


@SIZES
def test_setting_states_in_a_flow_run_takes_three(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, flow_run_id=make_flow_run(connection)))

    assert statements(connection, set_task_run_states, changes(ids, StateType.RUNNING)) == 3


@SIZES
def test_setting_states_that_queue_the_runs_takes_four(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert statements(connection, set_task_run_states, changes(ids, StateType.SCHEDULED)) == 4


@SIZES
def test_setting_states_that_take_the_runs_out_of_the_queue_takes_four(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))

    assert statements(connection, set_task_run_states, changes(ids, StateType.CANCELLED)) == 4


@SIZES
def test_setting_states_under_leases_takes_four(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    deliveries = claim(connection, size).deliveries
    ids, leases = [each.task_run.id for each in deliveries], [each.lease_id for each in deliveries]

    assert statements(connection, set_task_run_states, changes(ids, StateType.RUNNING, leases)) == 4


@SIZES
def test_setting_states_that_are_refused_takes_one(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert statements(connection, set_task_run_states, changes(ids, StateType.PENDING)) == 1


def test_setting_two_states_of_one_run_takes_as_many_as_doing_so_twice(connection: SQLiteConnection) -> None:
    ids = make_task_runs(connection, new_task_runs(100))
    twice = changes(ids, StateType.RUNNING) + changes(ids, StateType.COMPLETED)

    assert statements(connection, set_task_run_states, twice) == 6


# --- the queue ---


@SIZES
def test_claiming_takes_three(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    before = connection.statements

    made = claim(connection, size)

    assert len(made.deliveries) == size
    assert connection.statements - before == 3


@SIZES
def test_claiming_all_there_is_takes_one_more_to_see_what_comes_next(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    before = connection.statements

    made = claim(connection, size + 1)

    assert (len(made.deliveries), made.next_due_at) == (size, None)
    assert connection.statements - before == 4


def test_a_claim_for_many_keys_looks_at_a_share_of_each_and_no_further(connection: SQLiteConnection) -> None:
    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        make_task_runs(connection, new_task_runs(100, StateType.SCHEDULED, task_key=key))
    watching = WatchingConnection(connection.raw, connection.now)

    (made,) = claim_due_runs(watching, [request_for(20, *keys)])

    assert isinstance(made, Claim)
    assert Counter(each.task_run.task_key for each in made.deliveries) == dict.fromkeys(keys, 2)
    assert watching.fetched == [10 * (2 + SPARE), 20]


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_claim_looks_further_where_one_key_has_the_work(connection: SQLiteConnection, others: int) -> None:
    busy = make_task_runs(connection, new_task_runs(50, StateType.SCHEDULED, task_key="busy"))
    make_task_runs(connection, new_task_runs(others, StateType.SCHEDULED, task_key="quiet"))
    watching = WatchingConnection(connection.raw, connection.now)

    (made,) = claim_due_runs(watching, [request_for(20, "busy", "idle", "quiet")])

    assert isinstance(made, Claim)
    delivered = [each.task_run for each in made.deliveries]
    assert [run.id for run in delivered if run.task_key == "busy"] == busy[: 20 - others]
    assert [run.task_key for run in delivered[: 2 * others]] == ["busy", "quiet"] * others
    assert watching.fetched == [7 + SPARE + others, 20 + others, 20]


@SIZES
def test_acknowledging_takes_two(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in claim(connection, size).deliveries]

    assert statements(connection, acknowledge_leases, leases) == 2
    assert statements(connection, acknowledge_leases, leases) == 1


@SIZES
def test_giving_back_takes_two(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    leases = [each.lease_id for each in claim(connection, size).deliveries]

    assert statements(connection, give_back, leases) == 2


# --- updateTaskRun and deleteTaskRun ---


@SIZES
def test_renaming_takes_two(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size))

    assert statements(connection, update_task_runs, [TaskRunUpdate(id, "new") for id in ids]) == 2


@SIZES
def test_deleting_takes_four(connection: SQLiteConnection, size: int) -> None:
    ids = make_task_runs(connection, new_task_runs(size, StateType.SCHEDULED))
    claim(connection, size)

    assert statements(connection, delete_task_runs, ids) == 4


# --- taskRunHistory ---


@pytest.mark.parametrize("size", [1, 500])
def test_reading_a_history_takes_one(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(100))
    before = connection.statements

    history = read_history(connection, {}, split_span(connection.now, instant(START + timedelta(seconds=size)), 1))

    assert [[state.count_runs for state in each.states] for each in history] == [[100], *[[]] * (size - 1)]
    assert connection.statements - before == 1


# --- counting itself ---


def test_every_statement_is_counted_and_none_that_has_nothing_to_do(connection: SQLiteConnection) -> None:
    asked: list[str] = []
    connection.raw.set_trace_callback(asked.append)

    create_task_runs(connection, new_task_runs(1))

    assert connection.statements == len(asked) == 3
