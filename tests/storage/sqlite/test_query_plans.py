"""Query plans on SQLite: frequent statements use an index and scan no table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from db.connection import NOTHING, Row, SQLiteConnection
from db.enums import StateType
from db.query.pagination import LATEST_FIRST, Listing, PageWindow, SortOrder, count_rows, read_page
from db.records import QueueStats
from db.sql.statement import Parameters, Statement
from db.statements import (
    concurrency_limits,
    due_entries,
    flow_run_sweeps,
    pruning,
    queue,
    queue_stats,
    states,
    task_runs,
    waits,
)
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.pruning import PruneCriteria
from db.statements.state_changes import MIN_ID, FeedPosition, read_changes
from db.statements.task_runs import TASK_RUNS
from resolvers.history import read_history, split_span
from resolvers.task_run_updates import TaskRunUpdate, update_task_runs
from resolvers.task_runs import NewTaskRun, delete_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.ids import UNKNOWN_ID
from tests.builders.rows import claim, make_flow_run, make_task_runs, new_task_runs
from tests.builders.transitions import propose


@dataclass(slots=True)
class ExplainingConnection(SQLiteConnection):
    """A connection that records the query plan of each statement it executes."""

    plans: list[list[str]] = field(default_factory=list)

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self._explain(statement, parameters)
        return super(ExplainingConnection, self).fetch(statement, parameters)

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        return self.fetch(statement, parameters)

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self._explain(statement, parameters)
        return super(ExplainingConnection, self).run(statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self._explain(statement, rows[0])
        super(ExplainingConnection, self).run_many(statement, rows)

    def _explain(self, statement: Statement, parameters: Parameters) -> None:
        compiled = statement.for_sqlite
        rows = self.raw.execute(f"EXPLAIN QUERY PLAN {compiled.text}", compiled.bind_by_name(parameters)).fetchall()
        self.plans.append([row[3] for row in rows])


@pytest.fixture
def explaining(connection: SQLiteConnection) -> ExplainingConnection:
    """A recording connection to a database with queued, leased and flow-run task runs."""
    make_task_runs(connection, new_task_runs(5, StateType.SCHEDULED))
    make_task_runs(connection, new_task_runs(5, flow_run_id=make_flow_run(connection)))
    claim(connection, 2)
    return ExplainingConnection(connection.raw, connection.now)


def task_run_ids(connection: SQLiteConnection) -> list[str]:
    return [id for (id,) in connection.raw.execute("SELECT id FROM task_run ORDER BY id")]


def lease_ids(connection: SQLiteConnection) -> list[str]:
    return [id for (id,) in connection.raw.execute("SELECT lease_id FROM queue_entry WHERE lease_id IS NOT NULL")]


def indexes(plan: Sequence[str]) -> Mapping[str, str]:
    """Return the index used to search each table, by the table's alias in the statement."""
    found = (re.match(r"SEARCH (\w+) USING (?:COVERING )?INDEX (\w+)", step) for step in plan)
    return {match[1]: match[2] for match in found if match}


def scans(plan: Sequence[str]) -> list[str]:
    """Return the steps that scan a table or search it without an index. Scans of parameters and constants are ignored."""
    searched = re.compile(r"SEARCH \w+ USING (COVERING )?INDEX ")
    return [
        step
        for step in plan
        if step.startswith(("SCAN", "SEARCH"))
        and "VIRTUAL TABLE" not in step
        and step not in CONSTANT_SCANS
        and not searched.match(step)
    ]


CONSTANT_SCANS = {"SCAN CONSTANT ROW", "SCAN both_sides", "SCAN groups"}
"""`both_sides` has the two sides that each queue has, and `groups` the priorities that waiting runs have on them."""
TASK_RUN_ID_INDEX = "sqlite_autoindex_task_run_1"
STATE_ID_INDEX = "sqlite_autoindex_task_run_state_1"
QUEUE_ENTRY_RUN_INDEX = "sqlite_autoindex_queue_entry_1"
QUEUE_ENTRY_LEASE_INDEX = "sqlite_autoindex_queue_entry_2"
PAUSED_QUEUE_INDEX = "sqlite_autoindex_paused_queue_1"


def only_plan(connection: ExplainingConnection) -> list[str]:
    (plan,) = connection.plans
    return plan


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        (TASK_RUN_ID_INDEX, ["id"]),
        (STATE_ID_INDEX, ["id"]),
        (QUEUE_ENTRY_RUN_INDEX, ["task_run_id"]),
        (QUEUE_ENTRY_LEASE_INDEX, ["lease_id"]),
        ("sqlite_autoindex_flow_run_1", ["id"]),
        ("sqlite_autoindex_flow_run_state_1", ["id"]),
    ],
)
def test_automatic_key_indexes_have_the_expected_columns(
    explaining: ExplainingConnection, index: str, columns: list[str]
) -> None:
    assert [row[2] for row in explaining.raw.execute(f"PRAGMA index_info({index})")] == columns


def test_task_runs_are_found_by_their_ids(explaining: ExplainingConnection) -> None:
    found = task_runs.task_runs_by_id(explaining, task_run_ids(explaining))

    assert len(found) == 10
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": TASK_RUN_ID_INDEX, "task_run_state": STATE_ID_INDEX}


def test_task_runs_are_found_by_their_keys_in_a_flow_run(explaining: ExplainingConnection) -> None:
    flow_run_id = explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]

    found = task_runs.task_runs_by_key(explaining, [(flow_run_id, "t", "1"), (flow_run_id, "t", "2")])

    assert len(found) == 2
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run", "task_run_state": STATE_ID_INDEX}


def test_task_runs_are_found_by_their_keys_in_the_background(explaining: ExplainingConnection) -> None:
    found = task_runs.task_runs_by_key(explaining, [(None, "t", "1"), (None, "t", "2")])

    assert len(found) == 2
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_background", "task_run_state": STATE_ID_INDEX}


def test_task_runs_are_found_by_their_unique_keys(explaining: ExplainingConnection) -> None:
    explaining.raw.execute("UPDATE task_run SET unique_key = dynamic_key WHERE flow_run_id IS NULL")

    found = task_runs.task_runs_by_unique_key(explaining, [("t", "1"), ("t", "2"), ("t", "unknown")])

    assert sorted(found) == [("t", "1"), ("t", "2")]
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_unique_key", "task_run_state": STATE_ID_INDEX}


def test_a_page_of_one_worker_starts_from_the_leases(explaining: ExplainingConnection) -> None:
    filter = {"worker_name": {"in": ["mill-1"]}}

    read_page(explaining, TASK_RUNS, filter, LATEST_FIRST, PageWindow(3), selection=task_runs.NO_COLUMNS)

    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "task_run": TASK_RUN_ID_INDEX,
        "queue_entry_1": QUEUE_ENTRY_LEASE_INDEX,
    }


def test_a_limited_count_reads_the_index_of_its_filter(explaining: ExplainingConnection) -> None:
    assert count_rows(explaining, TASK_RUNS, {"task_key": {"in": ["t"]}}, at_most=3) == 3

    assert [step for step in only_plan(explaining) if "task_run" in step] == [
        "SEARCH task_run USING COVERING INDEX ix_task_run_task_key_id (task_key=?)"
    ]


def test_the_facts_of_a_state_change_are_found_through_indexes(explaining: ExplainingConnection) -> None:
    found = task_runs.task_run_facts(explaining, [(id, None) for id in task_run_ids(explaining)])

    assert len(found) == 10
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "task_run": TASK_RUN_ID_INDEX,
        "task_run_state": STATE_ID_INDEX,
        "earlier": "uq_task_run_state_transition",
        "queue_entry": QUEUE_ENTRY_RUN_INDEX,
        "flow_run": "sqlite_autoindex_flow_run_1",
        "flow_run_state": "sqlite_autoindex_flow_run_state_1",
    }


def test_state_histories_are_found_by_run(explaining: ExplainingConnection) -> None:
    found = states.task_run_histories(explaining, task_run_ids(explaining))

    assert [len(history) for history in found.values()] == [1] * 10
    assert scans(only_plan(explaining)) == []


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        ({"task_key": {"in": ["t"]}}, "ix_task_run_task_key_id"),
        ({"state": {"type": {"in": ["SCHEDULED"]}}}, "ix_task_run_state_type_id"),
    ],
)
def test_a_page_of_one_key_or_type_uses_the_index_order(
    explaining: ExplainingConnection, filter: dict[str, object], index: str
) -> None:
    found = read_page(explaining, TASK_RUNS, filter, LATEST_FIRST, PageWindow(2))

    assert len(found.rows) == 2
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": index, "task_run_state": STATE_ID_INDEX}
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_a_page_of_all_runs_is_read_in_id_order(explaining: ExplainingConnection) -> None:
    found = read_page(explaining, TASK_RUNS, {}, LATEST_FIRST, PageWindow(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX {TASK_RUN_ID_INDEX}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_a_page_of_one_flow_run_uses_the_flow_run_index(explaining: ExplainingConnection) -> None:
    flow_run_id = explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]

    found = read_page(explaining, TASK_RUNS, {"flow_run_id": {"in": [flow_run_id]}}, LATEST_FIRST, PageWindow(5))

    assert len(found.rows) == 5
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run", "task_run_state": STATE_ID_INDEX}


@pytest.mark.parametrize("operator", ["any", "all"])
def test_a_page_of_one_tag_scans_the_id_index(explaining: ExplainingConnection, operator: str) -> None:
    """SQLite cannot index the JSON list of tags, so the runs are filtered in page order until the page is full."""
    make_task_runs(explaining, [NewTaskRun("tagged", str(number), tags=("red",)) for number in range(3)])
    explaining.plans.clear()

    found = read_page(explaining, TASK_RUNS, {"tags": {operator: ["red"]}}, LATEST_FIRST, PageWindow(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX {TASK_RUN_ID_INDEX}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("time", ["START_TIME", "EXPECTED_START_TIME", "END_TIME"])
def test_a_page_sorted_by_a_time_uses_the_index_order(
    explaining: ExplainingConnection, time: str, direction: str
) -> None:
    found = read_page(explaining, TASK_RUNS, {}, SortOrder.parse(f"{time}_{direction}"), PageWindow(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX ix_task_run_{time.lower()}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize(
    ("listing", "key", "index"),
    [
        (FLOWS, "NAME", "sqlite_autoindex_flow_2"),
        (FLOWS, "CREATED", "ix_flow_created_id"),
        (DEPLOYMENTS, "NAME", "ix_deployment_name_id"),
        (DEPLOYMENTS, "CREATED", "ix_deployment_created_id"),
    ],
)
def test_a_page_of_flows_or_deployments_uses_the_index_order(
    explaining: ExplainingConnection, listing: Listing[Any], key: str, index: str, direction: str
) -> None:
    read_page(explaining, listing, {}, SortOrder.parse(f"{key}_{direction}"), PageWindow(3))

    assert only_plan(explaining) == [f"SCAN {listing.name} USING INDEX {index}"]


def test_a_filter_by_the_start_of_a_text_searches_the_index(explaining: ExplainingConnection) -> None:
    filter = {"starts_with": "t"}

    count_rows(explaining, TASK_RUNS, {"task_key": filter})
    read_page(explaining, FLOWS, {"name": filter}, SortOrder.parse("NAME_ASC"), PageWindow(3))

    assert explaining.plans == [
        ["SEARCH task_run USING COVERING INDEX ix_task_run_task_key_id (task_key>? AND task_key<?)"],
        ["SEARCH flow USING INDEX sqlite_autoindex_flow_2 (name>? AND name<?)"],
    ]


def test_a_page_of_one_type_by_start_time_uses_the_index_order(explaining: ExplainingConnection) -> None:
    filter = {"state": {"type": {"in": ["SCHEDULED"]}}}

    found = read_page(explaining, TASK_RUNS, filter, SortOrder.parse("START_TIME_DESC"), PageWindow(3))

    assert len(found.rows) == 3
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining))["task_run"] == "ix_task_run_state_type_start_time"
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"state": {"type": {"in": ["RUNNING"]}}}, "ix_task_run_state_type_id"),
        ({"state": {"type": {"in": ["RUNNING"]}}, "tags": {"any": ["red"]}}, "ix_task_run_state_type_id"),
        ({"state": {"type": {"in": ["RUNNING"]}}, "flow_run_id": {"in": ["x"]}}, "uq_task_run_in_flow_run"),
        (
            {"state": {"type": {"in": ["COMPLETED"]}}, "flow_run": {"flow": {"name": {"in": ["f"]}}}},
            "uq_task_run_in_flow_run",
        ),
    ],
)
def test_a_count_uses_the_state_type_index_unless_another_is_more_selective(
    explaining: ExplainingConnection, filter: dict[str, object], found: str
) -> None:
    count_rows(explaining, TASK_RUNS, filter)

    assert indexes(only_plan(explaining))["task_run"] == found


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"task_key": {"in": ["t"]}},
        {"state": {"type": {"in": ["SCHEDULED", "PENDING"]}}},
        {"state": {"type": {"in": ["SCHEDULED"]}}},
        {"flow_run_id": {"not_in": ["x"]}},
        {"start_time": {"is_null": True}},
        {"or": [{"tags": {"any": ["red"]}}, {"task_key": {"in": ["t"]}}]},
        {"not": {"flow_run": {"name": {"contains": "f"}}}},
    ],
)
@pytest.mark.parametrize("has_statistics", [False, True])
def test_a_history_reads_only_its_time_span_and_each_run_once(
    explaining: ExplainingConnection, filter: dict[str, object], has_statistics: bool
) -> None:
    if has_statistics:
        explaining.raw.execute("ANALYZE")

    read_history(explaining, filter, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    found = [step.replace("COVERING ", "") for step in only_plan(explaining) if " task_run " in step]
    assert found == [
        "SEARCH task_run USING INDEX ix_task_run_state_expected_start_time (state_type=?)",
        "SEARCH task_run USING INDEX ix_task_run_state_expected_start_time (state_type=? AND state_name>?)",
        "SEARCH task_run USING INDEX ix_task_run_state_expected_start_time"
        " (state_type=? AND state_name=? AND expected_start_time>? AND expected_start_time<?)",
        "SEARCH task_run USING INDEX ix_task_run_expected_start_time (expected_start_time>? AND expected_start_time<?)",
    ]


@pytest.mark.parametrize("has_statistics", [False, True])
@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"id": {"in": ["x"]}}, "USING INDEX sqlite_autoindex_task_run_1 (id=?)"),
        ({"flow_run_id": {"in": ["x"]}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
        ({"flow_run_id": {"in": ["x", "y"]}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
        ({"flow_run": {"id": {"in": ["x"]}}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
    ],
)
def test_a_history_of_given_runs_searches_only_these_runs(
    explaining: ExplainingConnection, filter: dict[str, object], found: str, has_statistics: bool
) -> None:
    if has_statistics:
        explaining.raw.execute("ANALYZE")

    read_history(explaining, filter, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    assert [step for step in only_plan(explaining) if " task_run " in step] == [f"SEARCH task_run {found}"]


def test_a_history_of_all_runs_uses_a_covering_index_without_sorting(explaining: ExplainingConnection) -> None:
    read_history(explaining, {}, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    plan = only_plan(explaining)
    found = "(state_type=? AND state_name=? AND expected_start_time>? AND expected_start_time<?)"
    first = plan.index(f"SEARCH task_run USING COVERING INDEX ix_task_run_state_expected_start_time {found}")
    fallback = next(step for step in plan[first + 1 :] if step.startswith("SEARCH task_run"))
    assert not [step for step in plan[first : plan.index(fallback)] if "TEMP B-TREE" in step]


def test_a_history_of_given_runs_scans_their_kinds_once(explaining: ExplainingConnection) -> None:
    read_history(explaining, {"id": {"in": ["x"]}}, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    assert [step for step in only_plan(explaining) if "JOIN" in step or step.startswith("CORRELATED")] == []
    assert only_plan(explaining).count("SCAN kinds") == 1


@pytest.mark.parametrize(
    ("filter", "index"), [({}, TASK_RUN_ID_INDEX), ({"task_key": {"in": ["t"]}}, "ix_task_run_task_key_id")]
)
def test_state_changes_are_read_in_id_order_with_indexed_lookups(
    explaining: ExplainingConnection, filter: dict[str, object], index: str
) -> None:
    found = read_changes(explaining, FeedPosition(None, MIN_ID), filter, size=4, backlog=20)

    assert len(found.changes) == 4
    _, page, beyond = explaining.plans
    assert scans(page) == ["SCAN part"]
    assert indexes(page) == {
        "task_run_state": STATE_ID_INDEX,
        "task_run": index,
        "change": STATE_ID_INDEX,
        "current": STATE_ID_INDEX,
        "previous": "ix_task_run_state_run_id_timestamp",
    }
    assert indexes(beyond) == {"task_run_state": STATE_ID_INDEX}


@pytest.mark.parametrize("locks_runs", [False, True])
def test_due_runs_of_a_key_are_read_from_the_waiting_index(explaining: ExplainingConnection, locks_runs: bool) -> None:
    found = due_entries.due_entries(explaining, ["t", "u"], per_group=10, locks_runs=locks_runs)

    assert len(found) == 3
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "any_waiting": "ix_queue_entry_waiting",
        "of_priority": "ix_queue_entry_waiting",
        "waiting": "ix_queue_entry_waiting",
        "paused_queue": PAUSED_QUEUE_INDEX,
        "queue_entry": QUEUE_ENTRY_RUN_INDEX,
        "task_run": TASK_RUN_ID_INDEX,
    }
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_the_next_due_time_is_read_from_the_waiting_index(explaining: ExplainingConnection) -> None:
    found = due_entries.next_due_at(explaining, ["t", "u"])

    assert found == {"t": explaining.now}
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "any_waiting": "ix_queue_entry_waiting",
        "of_priority": "ix_queue_entry_waiting",
        "waiting": "ix_queue_entry_waiting",
        "paused_queue": PAUSED_QUEUE_INDEX,
    }


@pytest.mark.parametrize("task_keys", [None, ["t", "u"]])
def test_queue_statistics_are_read_from_indexes(explaining: ExplainingConnection, task_keys: list[str] | None) -> None:
    found = queue_stats.read_queue_stats(explaining, task_keys)

    assert found == {"t": QueueStats("t", scheduled=3, leased=2, oldest_due_at=explaining.now)}
    steps = [step for step in only_plan(explaining) if "queue_entry" in step]
    assert len(steps) == 2
    assert "USING INDEX ix_queue_entry_waiting" in steps[0]
    assert steps[1].startswith("SEARCH queue_entry USING INDEX")


def test_waiting_runs_are_counted_in_the_waiting_index(explaining: ExplainingConnection) -> None:
    found = queue_stats.count_waiting(explaining, [("t", False), ("t", True), ("u", False)])

    assert found == {("t", False): 3, ("t", True): 0, ("u", False): 0}
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": "ix_queue_entry_waiting"}


def test_queue_entries_are_found_by_their_leases(explaining: ExplainingConnection) -> None:
    found = queue.queue_entries_by_lease(explaining, lease_ids(explaining))

    assert len(found) == 2
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": QUEUE_ENTRY_LEASE_INDEX, "task_run": TASK_RUN_ID_INDEX}


def test_statistics_of_a_small_queue_cause_no_table_scans(explaining: ExplainingConnection) -> None:
    explaining.raw.execute("ANALYZE")

    due_entries.due_entries(explaining, ["t", "u"], per_group=10)
    queue.queue_entries_by_lease(explaining, lease_ids(explaining))

    due, leased = explaining.plans
    assert indexes(due) == {
        "any_waiting": "ix_queue_entry_waiting",
        "of_priority": "ix_queue_entry_waiting",
        "waiting": "ix_queue_entry_waiting",
        "paused_queue": PAUSED_QUEUE_INDEX,
        "queue_entry": QUEUE_ENTRY_RUN_INDEX,
        "task_run": TASK_RUN_ID_INDEX,
    }
    assert indexes(leased) == {"queue_entry": QUEUE_ENTRY_LEASE_INDEX, "task_run": TASK_RUN_ID_INDEX}
    assert scans(due) == scans(leased) == []


def wait_for_slots(connection: SQLiteConnection) -> None:
    """Let all queued runs of the fixture wait for a concurrency slot, among many that do not."""
    connection.raw.execute("UPDATE queue_entry SET waits_for_slot = 1, waits_for_tag = 'a'")
    make_task_runs(connection, new_task_runs(500, StateType.SCHEDULED, task_key="u"))
    connection.raw.execute('UPDATE task_run SET tags = \'["a","b"]\'')


def test_runs_that_wait_for_a_slot_are_counted_in_their_index(explaining: ExplainingConnection) -> None:
    wait_for_slots(explaining)
    explaining.plans.clear()

    found = concurrency_limits.count_waiting_runs(explaining, ["a", "c"])

    assert found == {"a": 5, "c": 0}
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": "ix_queue_entry_waiting_for_slot"}


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_runs_that_a_freed_slot_wakes_are_found_in_their_index(
    explaining: ExplainingConnection, is_analyzed: bool
) -> None:
    wait_for_slots(explaining)
    if is_analyzed:
        explaining.raw.execute("ANALYZE")
    explaining.plans.clear()

    found = queue.first_waiting_for_slots(explaining, ["a"], 2)

    assert len(found) == 2
    assert indexes(only_plan(explaining)) == {
        "slot_waiter": "ix_queue_entry_waiting_for_slot",
        "queue_entry": QUEUE_ENTRY_RUN_INDEX,
    }
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_the_tags_that_runs_wait_for_are_found_in_their_index(explaining: ExplainingConnection) -> None:
    wait_for_slots(explaining)
    explaining.plans.clear()

    found = queue.tags_with_waiting_runs(explaining)

    assert found == ["a"]
    assert indexes(only_plan(explaining)) == {"slot_waiter": "ix_queue_entry_waiting_for_slot"}


def test_the_limits_of_task_runs_are_found_through_indexes(explaining: ExplainingConnection) -> None:
    concurrency_limits.limits_of_task_runs(explaining, task_run_ids(explaining))

    assert indexes(only_plan(explaining)) == {
        "task_run": TASK_RUN_ID_INDEX,
        "concurrency_limit": "sqlite_autoindex_concurrency_limit_2",
        "concurrency_slot": "sqlite_autoindex_concurrency_slot_1",
    }


def test_starts_under_leases_are_found_through_an_index(explaining: ExplainingConnection) -> None:
    task_runs.count_starts_under_leases(explaining, dict.fromkeys(task_run_ids(explaining), UNKNOWN_ID))

    assert scans(only_plan(explaining)) == []
    assert list(indexes(only_plan(explaining))) == ["task_run_state"]


def test_the_slots_of_limits_are_found_through_an_index(explaining: ExplainingConnection) -> None:
    concurrency_limits.slots_of_limits(explaining, [UNKNOWN_ID])

    assert scans(only_plan(explaining)) == []
    assert list(indexes(only_plan(explaining))) == ["concurrency_slot"]


def test_queue_entries_are_found_by_run(explaining: ExplainingConnection) -> None:
    found = queue.queue_entries_by_run(explaining, task_run_ids(explaining))

    assert len(found) == 5
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": QUEUE_ENTRY_RUN_INDEX}


def test_unacknowledged_entries_are_found_through_an_index(explaining: ExplainingConnection) -> None:
    found = queue.unacknowledged_entries(explaining)

    assert len(found) == 2
    assert scans(only_plan(explaining)) == []


@pytest.mark.parametrize("count", [1, 2])
def test_leases_to_acknowledge_are_found_one_by_one(explaining: ExplainingConnection, count: int) -> None:
    held = queue.acknowledge_entries(explaining, lease_ids(explaining)[:count])

    assert len(held) == count
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "queue_entry": QUEUE_ENTRY_LEASE_INDEX,
        "task_run": TASK_RUN_ID_INDEX,
    }


def test_expired_leases_are_read_from_the_leased_index(explaining: ExplainingConnection) -> None:
    explaining.now = "2030-01-01T13:00:00.000000Z"

    found = queue.runs_with_expired_leases(explaining, 500)

    assert len(found) == 2
    assert indexes(only_plan(explaining)) == {"queue_entry": "ix_queue_entry_leased"}
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_the_next_lease_expiry_is_read_from_the_leased_index(explaining: ExplainingConnection) -> None:
    found = queue.next_expiry_at(explaining)

    assert found == "2030-01-01T12:00:30.000000Z"
    assert "ix_queue_entry_leased" in " ".join(only_plan(explaining))
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_no_statement_of_a_state_change_scans_a_table(explaining: ExplainingConnection) -> None:
    set_task_run_states(explaining, [StateChange(id, propose(StateType.CANCELLED)) for id in task_run_ids(explaining)])

    assert len(explaining.plans) == 4
    assert [scans(plan) for plan in explaining.plans] == [[]] * 4


def test_no_statement_of_a_claim_scans_a_table(explaining: ExplainingConnection) -> None:
    claimed = claim(explaining, 10)

    assert len(claimed.deliveries) == 3
    assert [scans(plan) for plan in explaining.plans] == [[]] * 4


def test_no_statement_of_an_update_or_deletion_scans_a_table(explaining: ExplainingConnection) -> None:
    ids = task_run_ids(explaining)

    update_task_runs(explaining, [TaskRunUpdate(id, "new") for id in ids])
    delete_task_runs(explaining, ids)

    assert len(explaining.plans) == 6
    assert [scans(plan) for plan in explaining.plans] == [[]] * 6


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("task_run", "flow_run_id"),
        ("task_run_state", "run_id"),
        ("queue_entry", "task_run_id"),
        ("concurrency_slot", "task_run_id"),
        ("task_run_state_cache", "task_run_state_id"),
        ("flow_run", "parent_task_run_id"),
        ("flow_run", "flow_id"),
        ("flow_run_state", "run_id"),
        ("deployment", "flow_id"),
    ],
)
def test_rows_deleted_by_cascade_are_found_through_an_index(
    explaining: ExplainingConnection, table: str, column: str
) -> None:
    select = f"SELECT rowid FROM {table} WHERE {column} = ?"  # noqa: S608

    plan = [row[3] for row in explaining.raw.execute(f"EXPLAIN QUERY PLAN {select}", ("an id",))]

    assert scans(plan) == []
    assert list(indexes(plan)) == [table]


def test_old_runs_are_found_in_the_order_of_their_end(explaining: ExplainingConnection) -> None:
    ended = PruneCriteria("2029-01-01T00:00:00.000000Z", ["COMPLETED"])

    pruning.ended_background_task_runs(explaining, ended, 10)
    pruning.ended_flow_runs(explaining, ended, 10)

    assert [scans(plan) for plan in explaining.plans] == [[], []]
    assert [indexes(plan) for plan in explaining.plans] == [
        {"task_run": "ix_task_run_ended"},
        {
            "flow_run": "ix_flow_run_ended",
            "parent_task_run": TASK_RUN_ID_INDEX,
            "parent": "sqlite_autoindex_flow_run_1",
        },
    ]
    assert not any("ORDER BY" in step for plan in explaining.plans for step in plan)


def test_task_runs_of_an_old_flow_run_are_found_by_flow_run(explaining: ExplainingConnection) -> None:
    found = pruning.task_runs_of_flow_runs(
        explaining, [explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]], 9
    )

    assert len(found) == 5
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run"}


def test_an_old_flow_run_is_deleted_by_its_id(explaining: ExplainingConnection) -> None:
    deleted = pruning.delete_empty_flow_runs(
        explaining, [explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]]
    )

    assert deleted == 0
    assert scans(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "flow_run": "sqlite_autoindex_flow_run_1",
        "flow_run_state": "uq_flow_run_state_transition",
        "task_run": "uq_task_run_in_flow_run",
    }


def test_a_sweep_of_flow_runs_reads_only_what_can_require_a_change(explaining: ExplainingConnection) -> None:
    flow_run_sweeps.pending_work(explaining, explaining.now)
    flow_run_sweeps.expired_pauses(explaining, 9)
    flow_run_sweeps.orphaned_subflows(explaining, 9)
    flow_run_sweeps.orphaned_task_runs(explaining, explaining.now, 9)

    pending, *others = explaining.plans
    pauses = {"flow_run": "ix_flow_run_unfinished", "flow_run_state": "sqlite_autoindex_flow_run_state_1"}
    subflows = {
        "flow_run": "ix_flow_run_unfinished",
        "parent_task_run": TASK_RUN_ID_INDEX,
        "parent": "sqlite_autoindex_flow_run_1",
    }
    task_runs_of_stopped = {"flow_run": "ix_flow_run_stopped", "task_run": "ix_task_run_unfinished_in_flow_run"}
    assert [indexes(plan) for plan in others] == [pauses, subflows, task_runs_of_stopped]
    assert [step for plan in others for step in scans(plan)] == []
    assert [step for step in scans(pending) if step != "SCAN CONSTANT ROW"] == []


def test_waited_ids_are_looked_up_one_by_one(explaining: ExplainingConnection) -> None:
    assert waits.ended_task_runs(explaining, [*task_run_ids(explaining), UNKNOWN_ID]) == {UNKNOWN_ID: False}
    assert waits.signalled_leases(explaining, [*lease_ids(explaining), UNKNOWN_ID]) == {UNKNOWN_ID: None}

    ended, signalled = explaining.plans
    assert ended[1:] == [f"SEARCH task_run USING INDEX {TASK_RUN_ID_INDEX} (id=?) LEFT-JOIN"]
    assert signalled[1:] == [
        "SEARCH queue_entry USING INDEX sqlite_autoindex_queue_entry_2 (lease_id=?) LEFT-JOIN",
        f"SEARCH task_run USING INDEX {TASK_RUN_ID_INDEX} (id=?) LEFT-JOIN",
    ]
