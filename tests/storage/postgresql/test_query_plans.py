"""Query plans on PostgreSQL: frequent statements use an index on tables with thousands of rows."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from db.connection import NOTHING, Connection, Row
from db.enums import StateType
from db.postgresql.connection import PostgreSQLConnection
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.driver import open_pool
from db.query.filters import Filter
from db.query.pagination import LATEST_FIRST, Listing, PageWindow, SortOrder, count_rows, read_page
from db.records import DeploymentRecord, FlowRecord, StateRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement
from db.statements import concurrency_limits, due_entries, flows, queue, waits
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.states import insert_task_run_states
from db.statements.task_runs import TASK_RUNS, insert_task_runs, task_run_facts, task_runs_by_unique_key
from resolvers.history import read_history, split_span
from resolvers.task_runs import NewTaskRun, build_task_run
from tests.builders.rows import make_flow_run, make_task_runs, new_task_runs
from tests.clock import START, ManualClock
from tests.postgresql import PostgreSQLServer, database_connection

ROWS = 3000
DAY = timedelta(days=1)

Plan = Mapping[str, Any]
"""A node of a query plan, as `EXPLAIN (FORMAT JSON)` returns it."""


@dataclass(slots=True)
class ExplainingConnection(PostgreSQLConnection):
    """A connection that records the query plan of each statement it executes."""

    plans: list[Plan] = field(default_factory=list[Plan])

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        compiled = statement.for_postgresql
        explain = f"EXPLAIN (FORMAT JSON) {compiled.text}"
        explained = await_only(self.raw.fetchval(explain, *compiled.bind_by_position(parameters)))
        self.plans.append(json.loads(explained)[0]["Plan"])
        return super(ExplainingConnection, self).fetch(statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        compiled = statement.for_postgresql
        explain = f"EXPLAIN (FORMAT JSON) {compiled.text}"
        explained = await_only(self.raw.fetchval(explain, *compiled.bind_row_by_position(rows[0])))
        self.plans.append(json.loads(explained)[0]["Plan"])
        super(ExplainingConnection, self).run_many(statement, rows)


@pytest.fixture(scope="module")
def url(postgresql: PostgreSQLServer) -> Iterator[str]:
    """A database with thousands of runs and current planner statistics."""
    name = postgresql.make()
    url = postgresql.url_of(name)
    asyncio.run(fill(url))
    yield url
    postgresql.drop(name)


async def fill(url: str) -> None:
    database = await PostgreSQLDatabase.open(url, clock=ManualClock())
    await database.write(make_rows, ROWS)
    await database.close()
    async with database_connection(url) as connection:
        await connection.execute("VACUUM ANALYZE")


def make_rows(connection: Connection, counts: Sequence[int]) -> list[Exception | None]:
    """Insert runs over a hundred days, flow runs, task keys and tags, two percent FAILED, and queued runs of ten keys."""
    chance = random.Random(7)  # noqa: S311
    flow_runs = [make_flow_run(connection) for _ in range(100)]
    for count in counts:
        insert_task_runs(connection, [random_run(chance, number, flow_runs[number % 100]) for number in range(count)])
    times = [format_timestamp(START + timedelta(seconds=number)) for number in range(ROWS)]
    more_flows = [FlowRecord(new_id(time), time, time, f"flow-{time}", "[]") for time in times]
    flows.insert_flows(connection, more_flows)
    flows.insert_deployments(
        connection,
        [
            DeploymentRecord(new_id(each.created), each.created, each.created, each.name, each.id, "[]", None, True)
            for each in more_flows
        ],
    )
    for number in range(10):
        new = new_task_runs(30, StateType.SCHEDULED, task_key=f"waiting-{number}")
        make_task_runs(connection, [replace(each, unique_key=f"unique-{index}") for index, each in enumerate(new)])
    return [None] * len(counts)


def make_scheduled_runs(connection: Connection, counts: Sequence[int]) -> list[Exception | None]:
    for count in counts:
        make_task_runs(connection, new_task_runs(count, StateType.SCHEDULED, prefix=f"{count}-"))
    return [None] * len(counts)


def random_run(chance: random.Random, number: int, flow_run_id: str) -> TaskRunRecord:
    task, tag = f"task-{number % 100}", f"tag-{number % 100}"
    new = NewTaskRun(task, str(number), tags=(tag, "common"), flow_run_id=flow_run_id)
    run = build_task_run(new, format_timestamp(START))
    expected = START - chance.uniform(0, 100) * DAY
    run.state_type = StateType.FAILED if number % 50 == 0 else StateType.COMPLETED
    run.state_name = run.state_type.default_name
    run.state_timestamp = run.expected_start_time = format_timestamp(expected)
    run.start_time = chance.choice([None, format_timestamp(expected + timedelta(seconds=chance.uniform(0, 9)))])
    run.end_time = run.start_time
    return run


def explain_statement(url: str, work: Callable[[Connection], object]) -> Plan:
    """Return the query plan of the only statement that `work` executes."""

    async def explain() -> Plan:
        pool = await open_pool(url, min_size=1, max_size=1, timeout_seconds=60)
        try:
            async with pool.acquire() as raw:
                connection = ExplainingConnection(raw, ManualClock(), format_timestamp(START))
                await greenlet_spawn(work, connection)
        finally:
            await pool.close()
        (plan,) = connection.plans
        return plan

    return asyncio.run(explain())


def page_plan(url: str, filter: Filter, order: SortOrder = LATEST_FIRST) -> Plan:
    def read(connection: Connection) -> None:
        assert len(read_page(connection, TASK_RUNS, filter, order, PageWindow(10)).rows) == 10

    return explain_statement(url, read)


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(plan: Plan) -> set[str]:
    """Return the indexes that the plan uses."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


def sequential_scans(plan: Plan) -> list[str]:
    """Return the tables that the plan scans sequentially."""
    return [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]


def has_sort(plan: Plan) -> bool:
    return any("Sort" in node["Node Type"] for node in nodes(plan))


@pytest.mark.parametrize(
    ("filter", "order", "index"),
    [
        ({}, "ID_DESC", "pk_task_run"),
        ({"task_key": {"in": ["task-7"]}}, "ID_DESC", "ix_task_run_task_key_id"),
        ({"state": {"type": {"in": ["FAILED"]}}}, "ID_DESC", "ix_task_run_state_type_id"),
        ({}, "START_TIME_ASC", "ix_task_run_start_time"),
        ({}, "START_TIME_DESC", "ix_task_run_start_time"),
        ({"state": {"type": {"in": ["FAILED"]}}}, "START_TIME_DESC", "ix_task_run_state_type_start_time"),
        ({}, "EXPECTED_START_TIME_ASC", "ix_task_run_expected_start_time"),
        ({}, "EXPECTED_START_TIME_DESC", "ix_task_run_expected_start_time"),
        ({}, "END_TIME_ASC", "ix_task_run_end_time"),
        ({}, "END_TIME_DESC", "ix_task_run_end_time"),
    ],
)
def test_a_page_is_read_in_the_order_of_its_index(url: str, filter: Filter, order: str, index: str) -> None:
    plan = page_plan(url, filter, SortOrder.parse(order))

    assert index in indexes(plan)
    assert "task_run" not in sequential_scans(plan)
    assert not has_sort(plan)


def test_a_filter_by_the_start_of_a_text_searches_the_index(url: str) -> None:
    def read(connection: Connection) -> None:
        assert count_rows(connection, TASK_RUNS, {"task_key": {"starts_with": "task-7"}}) == ROWS * 11 // 100

    plan = explain_statement(url, read)

    assert "ix_task_run_task_key_id" in indexes(plan)
    assert "task_run" not in sequential_scans(plan)


@pytest.mark.parametrize("include_large_columns", [True, False])
def test_the_runs_of_transitions_are_looked_up_by_their_ids(url: str, include_large_columns: bool) -> None:
    unknown = new_id(format_timestamp(START))

    def read(connection: Connection) -> None:
        assert task_run_facts(connection, [(unknown, None)], include_large_columns=include_large_columns) == {}

    plan = explain_statement(url, read)

    assert "pk_task_run" in indexes(plan)
    assert "task_run" not in sequential_scans(plan)
    # A nested loop would compare each run with each locked row: a million times for 1,000 transitions.
    full_joins = [each for each in nodes(plan) if each.get("Join Type") == "Full"]
    assert [each["Node Type"] for each in full_joins] == ["Hash Join", "Hash Join"]


@pytest.mark.parametrize("analyzes", [False, True])
def test_the_current_state_of_a_run_is_looked_up_by_its_id(postgresql: PostgreSQLServer, analyzes: bool) -> None:
    """Also when no state was written on this server before the statistics were collected."""
    name = postgresql.make()
    url = postgresql.url_of(name)
    run_id = asyncio.run(fill_with_copied_states(url, analyzes=analyzes))
    time = format_timestamp(START)
    state = StateRecord(new_id(time), run_id, StateType.RUNNING, "Running", time, None, None, "{}", None)

    plan = explain_statement(url, lambda connection: insert_task_run_states(connection, [state]))
    postgresql.drop(name)

    assert indexes(plan) == {"pk_task_run", "pk_task_run_state"}
    assert sequential_scans(plan) == []


async def fill_with_copied_states(url: str, *, analyzes: bool) -> str:
    """Make 3,000 runs as if they had been copied from a SQLite file, and return the id of one of them."""
    database = await PostgreSQLDatabase.open(url, clock=ManualClock())
    async with database_connection(url) as connection:
        for table in ("task_run", "task_run_state"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await database.write(make_scheduled_runs, ROWS)
        await connection.execute("UPDATE task_run_state SET written_in = NULL")
        if analyzes:
            await connection.execute("VACUUM ANALYZE")
        run_id: str = await connection.fetchval("SELECT id::TEXT FROM task_run LIMIT 1")
    await database.close()
    return run_id


def test_runs_are_found_by_their_unique_keys_in_the_index_of_held_keys(url: str) -> None:
    def read(connection: Connection) -> None:
        assert list(task_runs_by_unique_key(connection, [("waiting-3", "unique-1"), ("waiting-3", "unknown")])) == [
            ("waiting-3", "unique-1")
        ]

    plan = explain_statement(url, read)

    assert "uq_task_run_unique_key" in indexes(plan)
    assert not sequential_scans(plan)


@pytest.mark.parametrize("order", ["NAME_ASC", "NAME_DESC", "CREATED_ASC", "CREATED_DESC"])
@pytest.mark.parametrize("listing", [FLOWS, DEPLOYMENTS], ids=["flows", "deployments"])
def test_a_page_of_flows_or_deployments_is_read_in_the_order_of_its_index(
    url: str, listing: Listing[Any], order: str
) -> None:
    def read(connection: Connection) -> None:
        assert len(read_page(connection, listing, {}, SortOrder.parse(order), PageWindow(10)).rows) == 10

    plan = explain_statement(url, read)

    assert not sequential_scans(plan)
    assert not any(node["Node Type"] == "Sort" for node in nodes(plan))


def test_runs_that_wait_for_a_slot_are_counted_in_their_index(url: str) -> None:
    def read(connection: Connection) -> None:
        assert concurrency_limits.count_waiting_runs(connection, ["tag-7"]) == {"tag-7": 0}

    plan = explain_statement(url, read)

    assert "ix_queue_entry_waiting_for_slot" in indexes(plan)
    assert not sequential_scans(plan)


def test_a_page_of_one_flow_run_uses_the_flow_run_index(url: str, postgresql: PostgreSQLServer) -> None:
    ((id,),) = postgresql.rows(urlsplit(url).path[1:], "SELECT CAST(id AS text) FROM flow_run ORDER BY id LIMIT 1")

    plan = page_plan(url, {"flow_run_id": {"in": [id]}})

    assert "uq_task_run_in_flow_run" in indexes(plan)
    assert "task_run" not in sequential_scans(plan)


@pytest.mark.parametrize("operator", ["any", "all"])
def test_a_page_of_one_tag_uses_the_tag_index(url: str, operator: str) -> None:
    plan = page_plan(url, {"tags": {operator: ["tag-7"]}})

    assert "ix_task_run_tags" in indexes(plan)
    assert "task_run" not in sequential_scans(plan)


@pytest.mark.parametrize(
    "filter", [{}, {"state": {"type": {"in": ["COMPLETED"]}}}, {"not": {"tags": {"any": ["tag-7"]}}}]
)
def test_a_history_reads_only_its_time_span(url: str, filter: Filter) -> None:
    span = split_span(format_timestamp(START - DAY), format_timestamp(START), 600)

    def read(connection: Connection) -> None:
        counts = [state.count_runs for each in read_history(connection, filter, span) for state in each.states]
        assert 0 < sum(counts) < ROWS / 20

    plan = explain_statement(url, read)

    assert "ix_task_run_expected_start_time" in indexes(plan)
    assert "task_run" not in sequential_scans(plan)


@pytest.mark.parametrize("locks_runs", [False, True])
def test_due_runs_of_a_key_are_read_from_the_waiting_index(url: str, locks_runs: bool) -> None:
    def read(connection: Connection) -> None:
        found = due_entries.due_entries(connection, ["waiting-1", "waiting-2"], per_group=10, locks_runs=locks_runs)
        assert len(found) == 20

    plan = explain_statement(url, read)

    assert "ix_queue_entry_waiting" in indexes(plan)
    assert not {"queue_entry", "task_run"} & set(sequential_scans(plan))


@pytest.mark.parametrize("read", [waits.ended_task_runs, waits.signalled_leases])
def test_waited_ids_are_looked_up_one_by_one(
    url: str, read: Callable[[Connection, Sequence[str]], Mapping[str, object]]
) -> None:
    ids = [new_id(format_timestamp(START)) for _ in range(1000)]

    plan = explain_statement(url, lambda connection: read(connection, ids))

    assert plan["Node Type"] == "Nested Loop"
    assert sequential_scans(plan) == []


@pytest.mark.parametrize("analyzed_rows", [None, 10, 3000])
def test_leases_to_acknowledge_are_found_in_indexes(postgresql: PostgreSQLServer, analyzed_rows: int | None) -> None:
    """With `analyzed_rows`, the statistics are those of this number of runs without a lease; otherwise there are none."""
    name = postgresql.make()
    url = postgresql.url_of(name)
    leases = asyncio.run(fill_with_leases(url, analyzed_rows))

    one, several = (
        explain_statement(url, lambda connection, ids=ids: queue.acknowledge_entries(connection, ids))
        for ids in (leases[:1], leases[:100])
    )
    postgresql.drop(name)

    assert sequential_scans(one) == sequential_scans(several) == []
    assert "pk_queue_entry" not in indexes(one)
    assert "pk_queue_entry" in indexes(several)


async def fill_with_leases(url: str, analyzed_rows: int | None) -> list[str]:
    """Make 3,000 waiting runs, lease 1,000 of them and return the leases."""
    database = await PostgreSQLDatabase.open(url, clock=ManualClock())
    async with database_connection(url) as connection:
        for table in ("queue_entry", "task_run"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        if analyzed_rows:
            await database.write(make_scheduled_runs, analyzed_rows)
            await connection.execute("VACUUM ANALYZE")
        await database.write(make_scheduled_runs, ROWS - (analyzed_rows or 0))
        leased = await connection.fetch(
            """
            UPDATE queue_entry
            SET lease_id = gen_random_uuid(), lease_seconds = 60, lease_expires_at = available_at + INTERVAL '1 minute'
            WHERE task_run_id IN (SELECT task_run_id FROM queue_entry LIMIT 1000)
            RETURNING lease_id::TEXT
            """
        )
    await database.close()
    return [lease_id for (lease_id,) in leased]


def test_entries_to_lock_by_run_or_lease_are_found_in_indexes(url: str) -> None:
    run_ids, lease_ids = [[new_id(format_timestamp(START)) for _ in range(100)] for _ in range(2)]

    def lock(connection: Connection) -> None:
        assert isinstance(connection, PostgreSQLConnection)
        # The table has no leases and few rows, which are cheaper to scan than to look up.
        await_only(connection.raw.execute("SET enable_seqscan = off"))
        queue.lock_queue_entries(connection, run_ids, lease_ids)

    plan = explain_statement(url, lock)

    assert sequential_scans(plan) == []
    assert "pk_queue_entry" in indexes(plan)
