"""Foreign keys: which rows are deleted together with a run, flow or limit."""

from collections.abc import Sequence

import pytest

from db.connection import Connection, SQLiteConnection
from db.enums import StateType
from db.sqlite.database import SQLiteDatabase
from resolvers.errors import NotFound
from resolvers.task_runs import delete_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.ids import UNKNOWN_ID
from tests.builders.rows import claim, make_flow_run, make_task_runs, new_task_runs
from tests.builders.transitions import propose

NOW = "2030-01-01T12:00:00.000000Z"

TASK_RUN_TABLES = {
    "task_run": "id",
    "task_run_state": "run_id",
    "task_run_state_cache": "(SELECT run_id FROM task_run_state WHERE id = task_run_state_id)",
    "queue_entry": "task_run_id",
    "concurrency_slot": "task_run_id",
}
"""The tables with rows of a task run, and the expression for the task run's id in each."""


def as_sqlite(connection: Connection) -> SQLiteConnection:
    assert isinstance(connection, SQLiteConnection)
    return connection


def make_full_task_runs(connection: Connection, names: Sequence[str]) -> list[str | Exception]:
    """Create background runs with a lease, two states, cached results and a concurrency slot."""
    raw = as_sqlite(connection).raw
    raw.execute("INSERT INTO concurrency_limit VALUES (?, ?, ?, 'tag', 9)", (UNKNOWN_ID, NOW, NOW))
    ids = make_task_runs(connection, new_task_runs(len(names), StateType.SCHEDULED))
    leases = {each.task_run.id: each.lease_id for each in claim(connection, len(names)).deliveries}
    set_task_run_states(connection, [StateChange(id, propose(StateType.RUNNING), lease_id=leases[id]) for id in ids])
    for id in ids:
        raw.execute("INSERT INTO concurrency_slot VALUES (?, ?, ?)", (UNKNOWN_ID, id, NOW))
        raw.execute(
            "INSERT INTO task_run_state_cache SELECT id, 'k', NULL, timestamp FROM task_run_state WHERE run_id = ?",
            (id,),
        )
    return [*ids]


def count_rows_of(connection: Connection, task_run_id: str) -> dict[str, int]:
    """Return the number of rows of each table that belong to this run."""
    raw = as_sqlite(connection).raw
    return {
        table: raw.execute(f"SELECT count(*) FROM {table} WHERE {owner} = ?", (task_run_id,)).fetchone()[0]  # noqa: S608
        for table, owner in TASK_RUN_TABLES.items()
    }


def count(connection: Connection, table: str) -> int:
    return as_sqlite(connection).raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


def execute(connection: Connection, statements: Sequence[tuple[str, str]]) -> list[int | Exception]:
    """Execute each statement with its parameter and return the row counts, without cascades."""
    return [as_sqlite(connection).raw.execute(text, (value,)).rowcount for text, value in statements]


async def test_deleting_a_task_run_deletes_all_its_rows_and_no_others(database: SQLiteDatabase) -> None:
    deleted, kept = await database.write_all(make_full_task_runs, ["deleted", "kept"])
    assert isinstance(deleted, str)
    assert isinstance(kept, str)
    full = {"task_run": 1, "task_run_state": 2, "task_run_state_cache": 2, "queue_entry": 1, "concurrency_slot": 1}
    assert await database.read(lambda connection: count_rows_of(connection, deleted)) == full

    deleted_id = await database.write(delete_task_runs, deleted)

    assert deleted_id == deleted
    assert await database.read(lambda connection: count_rows_of(connection, deleted)) == dict.fromkeys(full, 0)
    assert await database.read(lambda connection: count_rows_of(connection, kept)) == full
    # Cached results have no run id once their state is deleted, so count all of them.
    assert await database.read(lambda connection: count(connection, "task_run_state_cache")) == 2
    assert await database.read(lambda connection: count(connection, "concurrency_limit")) == 1


async def test_deleting_an_unknown_task_run_deletes_nothing(database: SQLiteDatabase) -> None:
    (kept,) = await database.write_all(make_full_task_runs, ["kept"])
    assert isinstance(kept, str)

    with pytest.raises(NotFound):
        await database.write(delete_task_runs, UNKNOWN_ID)

    assert await database.read(lambda connection: sum(count_rows_of(connection, kept).values())) == 7


async def test_deleting_a_limit_deletes_its_slots_and_no_run(database: SQLiteDatabase) -> None:
    await database.write_all(make_full_task_runs, ["a", "b"])

    await database.write(execute, ("DELETE FROM concurrency_limit WHERE id = ?", UNKNOWN_ID))

    assert await database.read(lambda connection: count(connection, "concurrency_slot")) == 0
    assert await database.read(lambda connection: count(connection, "task_run")) == 2


async def test_deleting_a_flow_run_deletes_its_task_runs_and_their_states(database: SQLiteDatabase) -> None:
    def make(connection: Connection, items: Sequence[None]) -> list[str | Exception]:
        deleted, kept = make_flow_run(connection), make_flow_run(connection)
        make_task_runs(connection, new_task_runs(3, flow_run_id=deleted))
        make_task_runs(connection, new_task_runs(2, flow_run_id=kept))
        make_task_runs(connection, new_task_runs(1))
        return [deleted for _ in items]

    flow_run_id = await database.write(make, None)

    await database.write(execute, ("DELETE FROM flow_run WHERE id = ?", flow_run_id))

    tables = ("flow", "flow_run", "flow_run_state", "task_run", "task_run_state")
    assert await database.read(lambda connection: [count(connection, table) for table in tables]) == [1, 1, 1, 3, 3]


async def test_deleting_a_flow_deletes_its_deployments_flow_runs_and_task_runs(
    database: SQLiteDatabase,
) -> None:
    def make(connection: Connection, items: Sequence[None]) -> list[Exception | None]:
        make_task_runs(connection, new_task_runs(3, flow_run_id=make_flow_run(connection)))
        make_task_runs(connection, new_task_runs(1))
        raw = as_sqlite(connection).raw
        raw.execute("INSERT INTO deployment SELECT ?, ?, ?, 'd', id, '[]', NULL, 1 FROM flow", (UNKNOWN_ID, NOW, NOW))
        return [None for _ in items]

    await database.write(make, None)

    await database.write(execute, ("DELETE FROM flow WHERE name = ?", "f"))

    tables = ("flow", "deployment", "flow_run", "flow_run_state", "task_run", "task_run_state")
    assert await database.read(lambda connection: [count(connection, table) for table in tables]) == [0, 0, 0, 0, 1, 1]


async def test_a_subflow_run_survives_the_deletion_of_its_parent_task_run(database: SQLiteDatabase) -> None:
    def make(connection: Connection, items: Sequence[None]) -> list[tuple[str, str] | Exception]:
        (parent,) = make_task_runs(connection, new_task_runs(1))
        return [(parent, make_flow_run(connection, parent)) for _ in items]

    def parent_of(connection: Connection, flow_run_id: str) -> tuple[str | None]:
        raw = as_sqlite(connection).raw
        return raw.execute("SELECT parent_task_run_id FROM flow_run WHERE id = ?", (flow_run_id,)).fetchone()

    parent, child = await database.write(make, None)
    assert await database.read(lambda connection: parent_of(connection, child)) == (parent,)

    await database.write(delete_task_runs, parent)

    assert await database.read(lambda connection: parent_of(connection, child)) == (None,)


async def test_deleting_a_flow_run_keeps_its_subflow_runs(
    database: SQLiteDatabase,
) -> None:
    def make(connection: Connection, items: Sequence[None]) -> list[str | Exception]:
        outer = make_flow_run(connection)
        (parent,) = make_task_runs(connection, new_task_runs(1, flow_run_id=outer))
        make_flow_run(connection, parent)
        return [outer for _ in items]

    outer = await database.write(make, None)

    await database.write(execute, ("DELETE FROM flow_run WHERE id = ?", outer))

    assert await database.read(lambda connection: count(connection, "flow_run")) == 1
    assert await database.read(lambda connection: count(connection, "task_run")) == 0
