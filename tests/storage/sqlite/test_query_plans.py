"""What runs often finds its rows through an index, and reads no table from end to end."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from db.connection import NOTHING, Row, SQLiteConnection
from db.enums import StateType
from db.query.pagination import LATEST_FIRST, Order, Window, count_rows, read_page
from db.records import QueueFigures
from db.sql.statement import Parameters, Statement
from db.statements import pruning, queue, queue_stats, states, task_runs
from db.statements.pruning import Ended
from db.statements.state_changes import LEAST_ID, FeedPlace, read_changes
from db.statements.task_runs import TASK_RUNS
from resolvers.history import read_history, split_span
from resolvers.task_runs import NewTaskRun, TaskRunUpdate, delete_task_runs, update_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.rows import claim, make_flow_run, make_task_runs, new_task_runs, proposed


@dataclass(slots=True)
class ExplainingConnection(SQLiteConnection):
    """A connection that also asks for the plan of each statement that it runs."""

    plans: list[list[str]] = field(default_factory=list)

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self._explain(statement, parameters)
        return super(ExplainingConnection, self).fetch(statement, parameters)

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self._explain(statement, parameters)
        return super(ExplainingConnection, self).run(statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self._explain(statement, rows[0])
        super(ExplainingConnection, self).run_many(statement, rows)

    def _explain(self, statement: Statement, parameters: Parameters) -> None:
        compiled = statement.for_sqlite
        rows = self.raw.execute(f"EXPLAIN QUERY PLAN {compiled.text}", compiled.by_name(parameters)).fetchall()
        self.plans.append([row[3] for row in rows])


@pytest.fixture
def explaining(connection: SQLiteConnection) -> ExplainingConnection:
    """A connection to a file with runs of every kind."""
    make_task_runs(connection, new_task_runs(5, StateType.SCHEDULED))
    make_task_runs(connection, new_task_runs(5, flow_run_id=make_flow_run(connection)))
    claim(connection, 2)
    return ExplainingConnection(connection.raw, connection.now)


def some_runs(connection: SQLiteConnection) -> list[str]:
    return [id for (id,) in connection.raw.execute("SELECT id FROM task_run ORDER BY id")]


def some_leases(connection: SQLiteConnection) -> list[str]:
    return [id for (id,) in connection.raw.execute("SELECT lease_id FROM queue_entry WHERE lease_id IS NOT NULL")]


def indexes(plan: Sequence[str]) -> Mapping[str, str]:
    """The index through which each table, by the name that the statement gives it, is searched."""
    found = (re.match(r"SEARCH (\w+) USING (?:COVERING )?INDEX (\w+)", step) for step in plan)
    return {match[1]: match[2] for match in found if match}


def scanned(plan: Sequence[str]) -> list[str]:
    """The steps that read a whole table, or search it without an index. Lists of parameters are read whole, of course."""
    searched = re.compile(r"SEARCH \w+ USING (COVERING )?INDEX ")
    return [
        step
        for step in plan
        if step.startswith(("SCAN", "SEARCH")) and "VIRTUAL TABLE" not in step and not searched.match(step)
    ]


ID_OF_TASK_RUN = "sqlite_autoindex_task_run_1"
ID_OF_STATE = "sqlite_autoindex_task_run_state_1"
RUN_OF_ENTRY = "sqlite_autoindex_queue_entry_1"
LEASE_OF_ENTRY = "sqlite_autoindex_queue_entry_2"


def only_plan(connection: ExplainingConnection) -> list[str]:
    (plan,) = connection.plans
    return plan


# --- the names that SQLite gives to the indexes of keys ---


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        (ID_OF_TASK_RUN, ["id"]),
        (ID_OF_STATE, ["id"]),
        (RUN_OF_ENTRY, ["task_run_id"]),
        (LEASE_OF_ENTRY, ["lease_id"]),
        ("sqlite_autoindex_flow_run_1", ["id"]),
        ("sqlite_autoindex_flow_run_state_1", ["id"]),
    ],
)
def test_the_key_that_is_meant(explaining: ExplainingConnection, index: str, columns: list[str]) -> None:
    assert [row[2] for row in explaining.raw.execute(f"PRAGMA index_info({index})")] == columns


# --- task runs ---


def test_task_runs_are_found_by_their_ids(explaining: ExplainingConnection) -> None:
    found = task_runs.task_runs_by_id(explaining, some_runs(explaining))

    assert len(found) == 10
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": ID_OF_TASK_RUN, "task_run_state": ID_OF_STATE}


def test_task_runs_are_found_by_their_keys_in_a_flow_run(explaining: ExplainingConnection) -> None:
    flow_run_id = explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]

    found = task_runs.task_runs_by_key(explaining, [(flow_run_id, "t", "1"), (flow_run_id, "t", "2")])

    assert len(found) == 2
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run", "task_run_state": ID_OF_STATE}


def test_task_runs_are_found_by_their_keys_in_the_background(explaining: ExplainingConnection) -> None:
    found = task_runs.task_runs_by_key(explaining, [(None, "t", "1"), (None, "t", "2")])

    assert len(found) == 2
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_background", "task_run_state": ID_OF_STATE}


def test_all_that_a_change_of_state_depends_on_is_found_through_indexes(explaining: ExplainingConnection) -> None:
    found = task_runs.task_run_facts(explaining, [(id, None) for id in some_runs(explaining)])

    assert len(found) == 10
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "task_run": ID_OF_TASK_RUN,
        "task_run_state": ID_OF_STATE,
        "earlier": "uq_task_run_state_transition",
        "queue_entry": RUN_OF_ENTRY,
        "flow_run": "sqlite_autoindex_flow_run_1",
        "flow_run_state": "sqlite_autoindex_flow_run_state_1",
    }


def test_histories_are_found_by_run(explaining: ExplainingConnection) -> None:
    found = states.task_run_histories(explaining, some_runs(explaining))

    assert [len(history) for history in found.values()] == [1] * 10
    assert scanned(only_plan(explaining)) == []


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        ({"task_key": {"any": ["t"]}}, "ix_task_run_task_key_id"),
        ({"state": {"type": {"any": ["SCHEDULED"]}}}, "ix_task_run_state_type_id"),
    ],
)
def test_a_page_of_one_key_or_type_is_read_in_the_order_of_its_index(
    explaining: ExplainingConnection, filter: dict[str, object], index: str
) -> None:
    found = read_page(explaining, TASK_RUNS, filter, LATEST_FIRST, Window(2))

    assert len(found.rows) == 2
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": index, "task_run_state": ID_OF_STATE}
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_a_page_of_all_runs_is_read_in_the_order_of_their_ids(explaining: ExplainingConnection) -> None:
    found = read_page(explaining, TASK_RUNS, {}, LATEST_FIRST, Window(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX {ID_OF_TASK_RUN}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_a_page_of_one_flow_run_is_found_by_the_flow_run(explaining: ExplainingConnection) -> None:
    flow_run_id = explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]

    found = read_page(explaining, TASK_RUNS, {"flow_run_id": {"any": [flow_run_id]}}, LATEST_FIRST, Window(5))

    assert len(found.rows) == 5
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run", "task_run_state": ID_OF_STATE}


@pytest.mark.parametrize("operator", ["any", "all"])
def test_a_page_of_one_tag_walks_the_ids_in_their_order(explaining: ExplainingConnection, operator: str) -> None:
    """SQLite has no index into a list of tags: runs are looked at in the order of the page until it is full."""
    make_task_runs(explaining, [NewTaskRun("tagged", str(number), tags=("red",)) for number in range(3)])
    explaining.plans.clear()

    found = read_page(explaining, TASK_RUNS, {"tags": {operator: ["red"]}}, LATEST_FIRST, Window(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX {ID_OF_TASK_RUN}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("time", ["START_TIME", "EXPECTED_START_TIME"])
def test_a_page_by_a_time_is_read_in_the_order_of_its_index(
    explaining: ExplainingConnection, time: str, direction: str
) -> None:
    found = read_page(explaining, TASK_RUNS, {}, Order.of(f"{time}_{direction}"), Window(3))

    assert len(found.rows) == 3
    assert [step for step in only_plan(explaining) if "task_run " in step] == [
        f"SCAN task_run USING INDEX ix_task_run_{time.lower()}"
    ]
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_a_page_of_one_type_by_start_time_is_read_in_the_order_of_its_index(explaining: ExplainingConnection) -> None:
    filter = {"state": {"type": {"any": ["SCHEDULED"]}}}

    found = read_page(explaining, TASK_RUNS, filter, Order.of("START_TIME_DESC"), Window(3))

    assert len(found.rows) == 3
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining))["task_run"] == "ix_task_run_state_type_start_time"
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


# --- counts ---


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"state": {"type": {"any": ["RUNNING"]}}}, "ix_task_run_state_type_id"),
        ({"state": {"type": {"any": ["RUNNING"]}}, "tags": {"any": ["red"]}}, "ix_task_run_state_type_id"),
        ({"state": {"type": {"any": ["RUNNING"]}}, "flow_run_id": {"any": ["x"]}}, "uq_task_run_in_flow_run"),
        (
            {"state": {"type": {"any": ["COMPLETED"]}}, "flow_run": {"flow": {"name": {"any": ["f"]}}}},
            "uq_task_run_in_flow_run",
        ),
    ],
)
def test_a_count_looks_for_a_type_of_state_where_nothing_else_finds_fewer_runs(
    explaining: ExplainingConnection, filter: dict[str, object], found: str
) -> None:
    count_rows(explaining, TASK_RUNS, filter)

    assert indexes(only_plan(explaining))["task_run"] == found


# --- history ---


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"task_key": {"any": ["t"]}},
        {"state": {"type": {"any": ["SCHEDULED", "PENDING"]}}},
        {"state": {"type": {"any": ["SCHEDULED"]}}},
        {"flow_run_id": {"not_any": ["x"]}},
        {"start_time": {"is_null": True}},
        {"or": [{"tags": {"any": ["red"]}}, {"task_key": {"any": ["t"]}}]},
        {"not": {"flow_run": {"name": {"like": "f"}}}},
    ],
)
@pytest.mark.parametrize("has_statistics", [False, True])
def test_a_history_reads_no_more_than_its_span_and_each_run_once(
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
        ({"id": {"any": ["x"]}}, "USING INDEX sqlite_autoindex_task_run_1 (id=?)"),
        ({"flow_run_id": {"any": ["x"]}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
        ({"flow_run_id": {"any": ["x", "y"]}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
        ({"flow_run": {"id": {"any": ["x"]}}}, "USING INDEX uq_task_run_in_flow_run (flow_run_id=?)"),
    ],
)
def test_a_history_of_runs_that_are_named_looks_for_these_alone(
    explaining: ExplainingConnection, filter: dict[str, object], found: str, has_statistics: bool
) -> None:
    if has_statistics:
        explaining.raw.execute("ANALYZE")

    read_history(explaining, filter, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    assert [step for step in only_plan(explaining) if " task_run " in step] == [f"SEARCH task_run {found}"]


def test_a_history_of_all_runs_reads_no_row_and_sorts_none(explaining: ExplainingConnection) -> None:
    read_history(explaining, {}, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    plan = only_plan(explaining)
    found = "(state_type=? AND state_name=? AND expected_start_time>? AND expected_start_time<?)"
    first = plan.index(f"SEARCH task_run USING COVERING INDEX ix_task_run_state_expected_start_time {found}")
    where_there_are_many_kinds = next(step for step in plan[first + 1 :] if step.startswith("SEARCH task_run"))
    assert not [step for step in plan[first : plan.index(where_there_are_many_kinds)] if "TEMP B-TREE" in step]


def test_a_history_of_runs_that_are_named_goes_through_their_kinds_once(explaining: ExplainingConnection) -> None:
    read_history(explaining, {"id": {"any": ["x"]}}, split_span("2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z", 60))

    assert [step for step in only_plan(explaining) if "JOIN" in step or step.startswith("CORRELATED")] == []
    assert only_plan(explaining).count("SCAN kinds") == 1


# --- the feed ---


@pytest.mark.parametrize(
    ("filter", "index"), [({}, ID_OF_TASK_RUN), ({"task_key": {"any": ["t"]}}, "ix_task_run_task_key_id")]
)
def test_a_part_of_the_feed_is_read_in_the_order_of_ids_and_what_belongs_to_it_is_found_through_indexes(
    explaining: ExplainingConnection, filter: dict[str, object], index: str
) -> None:
    found = read_changes(explaining, FeedPlace(None, LEAST_ID), filter, size=4, backlog=20)

    assert len(found.changes) == 4
    _, page, beyond = explaining.plans
    assert scanned(page) == ["SCAN part"]
    assert indexes(page) == {
        "task_run_state": ID_OF_STATE,
        "task_run": index,
        "change": ID_OF_STATE,
        "current": ID_OF_STATE,
        "previous": "ix_task_run_state_run_id_timestamp",
    }
    assert indexes(beyond) == {"task_run_state": ID_OF_STATE}


# --- the queue ---


def test_the_due_runs_of_a_key_are_found_in_the_index_of_what_waits(explaining: ExplainingConnection) -> None:
    found = queue.due_entries(explaining, ["t", "u"], per_side=10)

    assert len(found) == 3
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"waiting": "ix_queue_entry_waiting", "queue_entry": RUN_OF_ENTRY}
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_what_comes_due_next_is_found_in_the_index_of_what_waits(explaining: ExplainingConnection) -> None:
    found = queue.next_due_at(explaining, ["t", "u"])

    assert found == explaining.now
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"waiting": "ix_queue_entry_waiting"}


@pytest.mark.parametrize("task_keys", [None, ["t", "u"]])
def test_the_figures_of_queues_are_read_from_indexes(
    explaining: ExplainingConnection, task_keys: list[str] | None
) -> None:
    found = queue_stats.queue_figures(explaining, task_keys)

    assert found == {"t": QueueFigures("t", scheduled=3, leased=2, oldest_due_at=explaining.now)}
    steps = [step for step in only_plan(explaining) if "queue_entry" in step]
    assert len(steps) == 2
    assert "USING INDEX ix_queue_entry_waiting" in steps[0]
    assert steps[1].startswith("SEARCH queue_entry USING INDEX")


def test_what_waits_on_a_side_is_counted_in_the_index_of_what_waits(explaining: ExplainingConnection) -> None:
    found = queue_stats.count_waiting(explaining, [("t", False), ("t", True), ("u", False)])

    assert found == {("t", False): 3, ("t", True): 0, ("u", False): 0}
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": "ix_queue_entry_waiting"}


def test_leased_runs_are_found_by_their_leases(explaining: ExplainingConnection) -> None:
    found = queue.queue_entries_by_lease(explaining, some_leases(explaining))

    assert len(found) == 2
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": LEASE_OF_ENTRY, "task_run": ID_OF_TASK_RUN}


def test_statistics_of_a_small_queue_have_nobody_read_all_of_a_large_one(explaining: ExplainingConnection) -> None:
    explaining.raw.execute("ANALYZE")

    queue.due_entries(explaining, ["t", "u"], per_side=10)
    queue.queue_entries_by_lease(explaining, some_leases(explaining))

    due, leased = explaining.plans
    assert indexes(due) == {"waiting": "ix_queue_entry_waiting", "queue_entry": RUN_OF_ENTRY}
    assert indexes(leased) == {"queue_entry": LEASE_OF_ENTRY, "task_run": ID_OF_TASK_RUN}
    assert scanned(due) == scanned(leased) == []


def test_places_in_the_queue_are_found_by_run(explaining: ExplainingConnection) -> None:
    found = queue.queue_entries_by_run(explaining, some_runs(explaining))

    assert len(found) == 5
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"queue_entry": RUN_OF_ENTRY}


def test_what_was_delivered_and_not_taken_over_is_found_among_the_leased(explaining: ExplainingConnection) -> None:
    found = queue.unacknowledged_entries(explaining)

    assert len(found) == 2
    assert scanned(only_plan(explaining)) == []


def test_leases_that_have_run_out_are_found_in_the_index_of_what_is_leased(explaining: ExplainingConnection) -> None:
    explaining.now = "2030-01-01T13:00:00.000000Z"

    found = queue.runs_with_expired_leases(explaining, 500)

    assert len(found) == 2
    assert indexes(only_plan(explaining)) == {"queue_entry": "ix_queue_entry_leased"}
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


def test_the_lease_that_runs_out_next_is_found_in_the_index_of_what_is_leased(explaining: ExplainingConnection) -> None:
    found = queue.next_expiry_at(explaining)

    assert found == "2030-01-01T12:00:30.000000Z"
    assert "ix_queue_entry_leased" in " ".join(only_plan(explaining))
    assert not [step for step in only_plan(explaining) if "TEMP B-TREE" in step]


# --- whole operations ---


def test_no_statement_of_a_change_of_state_reads_a_whole_table(explaining: ExplainingConnection) -> None:
    set_task_run_states(explaining, [StateChange(id, proposed(StateType.CANCELLED)) for id in some_runs(explaining)])

    assert len(explaining.plans) == 4
    assert [scanned(plan) for plan in explaining.plans] == [[]] * 4


def test_no_statement_of_a_claim_reads_a_whole_table(explaining: ExplainingConnection) -> None:
    made = claim(explaining, 10)

    assert len(made.deliveries) == 3
    assert [scanned(plan) for plan in explaining.plans] == [[]] * 4


def test_no_statement_of_an_update_or_a_deletion_reads_a_whole_table(explaining: ExplainingConnection) -> None:
    ids = some_runs(explaining)

    update_task_runs(explaining, [TaskRunUpdate(id, "new") for id in ids])
    delete_task_runs(explaining, ids)

    assert len(explaining.plans) == 6
    assert [scanned(plan) for plan in explaining.plans] == [[]] * 6


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
def test_what_a_deletion_takes_along_is_found_through_an_index(
    explaining: ExplainingConnection, table: str, column: str
) -> None:
    select = f"SELECT rowid FROM {table} WHERE {column} = ?"  # noqa: S608

    plan = [row[3] for row in explaining.raw.execute(f"EXPLAIN QUERY PLAN {select}", ("an id",))]

    assert scanned(plan) == []
    assert list(indexes(plan)) == [table]


# --- old runs ---


def test_what_ended_long_ago_is_found_in_the_order_of_its_end(explaining: ExplainingConnection) -> None:
    ended = Ended("2029-01-01T00:00:00.000000Z", ["COMPLETED"])

    pruning.ended_in_background(explaining, ended, 10)
    pruning.ended_flow_runs(explaining, ended, 10)

    assert [scanned(plan) for plan in explaining.plans] == [[], []]
    assert [indexes(plan) for plan in explaining.plans] == [
        {"task_run": "ix_task_run_ended"},
        {
            "flow_run": "ix_flow_run_ended",
            "parent_task_run": ID_OF_TASK_RUN,
            "parent": "sqlite_autoindex_flow_run_1",
        },
    ]
    assert not any("ORDER BY" in step for plan in explaining.plans for step in plan)


def test_the_task_runs_of_an_old_flow_run_are_found_through_it(explaining: ExplainingConnection) -> None:
    found = pruning.task_runs_of_flow_runs(
        explaining, [explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]], 9
    )

    assert len(found) == 5
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {"task_run": "uq_task_run_in_flow_run"}


def test_an_old_flow_run_is_deleted_by_its_id(explaining: ExplainingConnection) -> None:
    deleted = pruning.delete_empty_flow_runs(
        explaining, [explaining.raw.execute("SELECT id FROM flow_run").fetchone()[0]]
    )

    assert deleted == 0
    assert scanned(only_plan(explaining)) == []
    assert indexes(only_plan(explaining)) == {
        "flow_run": "sqlite_autoindex_flow_run_1",
        "flow_run_state": "uq_flow_run_state_transition",
        "task_run": "uq_task_run_in_flow_run",
    }
