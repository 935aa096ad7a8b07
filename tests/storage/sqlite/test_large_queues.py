"""Claims on SQLite cost the same whatever the number of waiting runs is.

The cost is the number of instructions of SQLite's virtual machine, which does not depend on the load of the computer.
"""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from db.connection import SQLiteConnection
from db.enums import StateType
from db.statements import run_deadlines
from db.statements.due_entries import due_entries, next_due_at
from tests.builders.rows import claim, make_task_runs, new_task_runs

FEW = 1000
MANY = 50_000
PRIORITIES = "(n % 3) - 1"
LATER = "2031-01-01T00:00:00.000000Z"


def copy_queued_run(connection: SQLiteConnection, count: int, *, prefix: str, **columns: str) -> None:
    """Copy the first queued run `count` times, with these SQL expressions for columns of the copied entries."""
    ids = f"printf('0190{prefix}000-0000-7000-8000-%012x', n)"
    for table, key, changed in (
        ("task_run", "id", {"dynamic_key": f"'{prefix}' || n"}),
        ("queue_entry", "task_run_id", columns),
    ):
        names = [row[1] for row in connection.raw.execute(f"PRAGMA table_info({table})")]
        values = ", ".join({key: ids, **changed}.get(name, f'"{name}"') for name in names)
        connection.raw.execute(
            f"WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"  # noqa: S608
            f" INSERT INTO {table} SELECT {values} FROM (SELECT * FROM {table} ORDER BY {key} LIMIT 1), number",
            [count],
        )


@contextmanager
def count_instructions(connection: SQLiteConnection) -> Generator[list[int]]:
    """Count the instructions of the block, in tens. The list has the number after the block."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection.raw.set_progress_handler(count, 10)
    try:
        yield counted
    finally:
        connection.raw.set_progress_handler(None, 10)


def fill(connection: SQLiteConnection, count: int) -> None:
    make_task_runs(connection, new_task_runs(1, StateType.SCHEDULED))
    copy_queued_run(connection, count, prefix="a", priority=PRIORITIES)


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_claim_from_many_waiting_runs_costs_what_one_from_few_does(
    connection: SQLiteConnection, is_analyzed: bool
) -> None:
    fill(connection, FEW)
    costs: list[int] = []
    for steps in range(3):
        if steps == 1:
            copy_queued_run(connection, MANY, prefix="b", priority=PRIORITIES)
        if steps == 2:
            copy_queued_run(connection, MANY, prefix="c", priority="10", available_at=f"'{LATER}'")
        if is_analyzed:
            connection.raw.execute("ANALYZE")
        connection.raw.execute("SAVEPOINT before")
        with count_instructions(connection) as counted:
            assert len(claim(connection, 100).deliveries) == 100
        connection.raw.execute("ROLLBACK TO before")
        costs.append(counted[0])

    few, many, many_and_later = costs
    assert many <= 1.05 * few
    assert many_and_later <= 1.05 * few


def test_the_next_due_time_is_found_among_many_waiting_runs_of_several_priorities(connection: SQLiteConnection) -> None:
    make_task_runs(connection, new_task_runs(1, StateType.SCHEDULED))
    connection.raw.execute("UPDATE queue_entry SET available_at = ?", [LATER])
    copy_queued_run(connection, MANY, prefix="a", priority="(n % 21) - 10")
    connection.raw.execute("UPDATE queue_entry SET available_at = '2030-06-01T00:00:00.000000Z' WHERE priority = -10")

    with count_instructions(connection) as counted:
        found = next_due_at(connection, ["t"])

    assert found == {"t": "2030-06-01T00:00:00.000000Z"}
    assert counted[0] < 500


def test_a_paused_key_costs_two_searches_however_many_runs_wait(connection: SQLiteConnection) -> None:
    fill(connection, MANY)
    connection.raw.execute("INSERT INTO paused_queue VALUES ('t', ?)", [connection.now])

    with count_instructions(connection) as counted:
        found = due_entries(connection, ["t"], per_group=100)

    assert found == []
    assert counted[0] < 50


def test_the_first_deadlines_are_found_among_many_runs(connection: SQLiteConnection) -> None:
    fill(connection, MANY)
    connection.raw.execute("UPDATE task_run SET expires_at = ?", [LATER])
    connection.raw.execute("UPDATE task_run SET expires_at = ? WHERE dynamic_key = 'a7'", [connection.now])
    connection.raw.execute("UPDATE queue_entry SET times_out_at = ?", [LATER])

    with count_instructions(connection) as counted:
        pending = run_deadlines.pending_deadlines(connection)
        expired = run_deadlines.expired_task_runs(connection, 500)
        timed_out = run_deadlines.timed_out_task_runs(connection, 500)

    assert (pending.has_expired, pending.has_timed_out, pending.next_at) == (True, False, LATER)
    assert (len(expired), timed_out) == (1, [])
    assert counted[0] < 50
