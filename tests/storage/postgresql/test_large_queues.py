"""Claims on PostgreSQL cost the same whatever the number of waiting runs is.

The cost is the number of pages that the statement reads, which does not depend on the load of the computer.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from db.connection import NOTHING, Connection, Row
from db.enums import StateType
from db.postgresql.connection import PostgreSQLConnection
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.driver import open_pool
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement
from db.statements import run_deadlines
from db.statements.due_entries import due_entries, next_due_at
from tests.builders.rows import make_task_runs, new_task_runs
from tests.clock import START, ManualClock
from tests.postgresql import PostgreSQLServer, database_connection
from tests.serving import POSTGRESQL_ONLY

pytestmark = POSTGRESQL_ONLY

FEW = 1000
MANY = 20_000

_COPY = """
INSERT INTO {table} SELECT {values}
FROM (SELECT * FROM {table} WHERE task_key = '{source}' ORDER BY {key} LIMIT 1) AS copied, generate_series(1, {count}) AS n
"""


@dataclass(slots=True)
class MeasuringConnection(PostgreSQLConnection):
    """A connection that executes each statement with EXPLAIN ANALYZE first, and records the plans."""

    plans: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        compiled = statement.for_postgresql
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled.text}"
        # The first execution sets hint bits.
        await_only(self.raw.fetchval(explain, *compiled.bind_by_position(parameters)))
        explained = await_only(self.raw.fetchval(explain, *compiled.bind_by_position(parameters)))
        self.plans.append(json.loads(explained)[0]["Plan"])
        return super(MeasuringConnection, self).fetch(statement, parameters)

    @property
    def pages(self) -> int:
        """Number of pages that the statements read."""
        return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in self.plans)


async def copy_queued_run(connection: Any, source: str, task_key: str, count: int, prefix: str, **columns: str) -> None:
    """Copy a queued run of the task key `source`, with these SQL expressions for columns of the copied entries."""
    ids = f"('0190{prefix}000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
    for table, key, changed in (
        ("task_run", "id", {"dynamic_key": f"'{prefix}' || n"}),
        ("queue_entry", "task_run_id", columns),
    ):
        names = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position", table
        )
        given = {key: ids, "task_key": f"'{task_key}'", **changed}
        values = ", ".join(given.get(name, f'copied."{name}"') for (name,) in names)
        await connection.execute(_COPY.format(table=table, values=values, source=source, key=key, count=count))


@pytest.fixture(scope="module")
def url(postgresql: PostgreSQLServer) -> Iterator[str]:
    """A database with many waiting runs of some keys, and current planner statistics."""
    name = postgresql.make()
    asyncio.run(fill(postgresql.url_of(name)))
    yield postgresql.url_of(name)
    postgresql.drop(name)


async def fill(url: str) -> None:
    database = await PostgreSQLDatabase.open(url, clock=ManualClock())
    await database.write(
        lambda connection, _: [make_task_runs(connection, new_task_runs(1, StateType.SCHEDULED))], None
    )
    await database.close()
    levels, later = {"priority": "(n % 3) - 1"}, "copied.available_at + interval '1 year'"
    async with database_connection(url) as connection:
        await copy_queued_run(connection, "t", "few", FEW, "a", **levels)
        await copy_queued_run(connection, "t", "many", MANY, "b", **levels)
        await copy_queued_run(connection, "t", "later", MANY, "c", priority="10", available_at=later)
        await copy_queued_run(connection, "t", "later", MANY, "d", **levels)
        await copy_queued_run(connection, "t", "paused", MANY, "e", **levels)
        await connection.execute("INSERT INTO paused_queue VALUES ('paused', now())")
        await connection.execute("UPDATE task_run SET expires_at = created + interval '1 year'")
        await connection.execute("UPDATE task_run SET expires_at = created WHERE dynamic_key = 'a7'")
        await connection.execute("UPDATE queue_entry SET times_out_at = available_at + interval '1 year'")
        await connection.execute("VACUUM ANALYZE")


def measure(url: str, work: Callable[[Connection], object]) -> MeasuringConnection:
    async def run() -> MeasuringConnection:
        pool = await open_pool(url, min_size=1, max_size=1, timeout_seconds=60)
        try:
            async with pool.acquire() as raw, raw.transaction():
                connection = MeasuringConnection(raw, ManualClock(), format_timestamp(START))
                await greenlet_spawn(work, connection)
                return connection
        finally:
            await pool.close()

    return asyncio.run(run())


def scanned_tables(plan: Mapping[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set[str]()
    return found.union(*(scanned_tables(each) for each in plan.get("Plans", ())))


@pytest.mark.parametrize("locks_runs", [False, True])
def test_due_runs_among_many_cost_what_those_among_few_do(url: str, locks_runs: bool) -> None:
    def read(key: str) -> MeasuringConnection:
        def work(connection: Connection) -> None:
            found = due_entries(connection, [key], per_group=100, locks_runs=locks_runs)
            assert {(entry.priority, entry.is_retry) for entry in found} == {(-1, False), (0, False), (1, False)}
            assert len(found) == 300

        return measure(url, work)

    few, many, later = read("few"), read("many"), read("later")

    assert many.pages <= 1.3 * few.pages
    assert later.pages <= 1.3 * few.pages
    assert {table for each in (few, many, later) for table in scanned_tables(each.plans[0])} <= {"paused_queue"}


def test_the_next_due_time_is_found_among_many_waiting_runs(url: str) -> None:
    def read(connection: Connection) -> None:
        assert next_due_at(connection, ["many", "later", "paused", "none"]) == dict.fromkeys(
            ("many", "later"), format_timestamp(START)
        )

    measured = measure(url, read)

    assert measured.pages < 200
    assert scanned_tables(measured.plans[0]) <= {"paused_queue"}


def test_a_paused_key_costs_little_however_many_runs_wait(url: str) -> None:
    measured = measure(url, lambda connection: due_entries(connection, ["paused"], per_group=100))

    assert measured.pages < 20


def test_the_first_deadlines_are_found_among_many_runs(url: str) -> None:
    def read(connection: Connection) -> None:
        pending = run_deadlines.pending_deadlines(connection)
        assert (pending.has_expired, pending.has_timed_out) == (True, False)
        assert len(run_deadlines.expired_task_runs(connection, 500)) == 1
        assert run_deadlines.timed_out_task_runs(connection, 500) == []

    measured = measure(url, read)

    assert measured.pages < 100
    assert [scanned_tables(plan) for plan in measured.plans] == [set()] * 3
