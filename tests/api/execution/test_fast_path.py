"""The fast path returns the same bytes as the standard executor of graphql-core, with fewer calls."""

import asyncio
import itertools
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType, SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
)
from hypothesis import given, note, settings
from hypothesis import strategies as st

from db.connection import Connection, SQLiteConnection
from db.enums import StateType
from db.records import FlowRunPolicy, TaskRunPolicy
from db.runtime.timestamps import format_timestamp
from db.sqlite.database import SQLiteDatabase
from resolvers.concurrency_limits import LimitSetting, set_limits
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewDeployment, NewFlow, create_deployments, create_flows
from resolvers.queue.capacity import QueueCapacity
from resolvers.task_runs import NewTaskRun, create_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from resolvers.write_operations import CapacityCheckedWrites
from schema.context import Context
from schema.execution.engine import RunyardSchema
from schema.mutation import Mutation
from schema.query import Query
from schema.root import build_schema
from schema.scalars import SCALARS
from schema.subscription import Subscription
from tests.builders.ids import UNKNOWN_ID
from tests.builders.transitions import propose
from tests.clock import ManualClock

INVALID_VALUES = (
    "tags = 'no JSON'",
    "tags = 'null'",
    """tags = '["a", null]'""",
    "tags = '[1, true]'",
    "name = X'6162'",
    "parameters = X'5B5D'",
    "run_count = 3000000000",
    "run_count = 'many'",
    "total_run_time_seconds = 9e999",
    "total_run_time_seconds = 'long'",
    "start_time = 'never'",
    "expected_start_time = 'never'",
    """retry_delay_seconds = '[1, "2", null]'""",
    "state_id = NULL, state_type = NULL, state_name = NULL",
    "state_name = NULL",
    "state_type = 'RUNNING', state_timestamp = 'never'",
)
INVALID_STATE_VALUES = (
    """details = '{"pause_reschedule": null}'""",
    """details = '{"cache_key": 5, "retriable": 1}'""",
    """details = '{"unknown": 5}'""",
    "details = 'no JSON'",
    "message = X'6162'",
)
"""Values in a row that are invalid for the schema, or of another type than they appear."""

JSON_TEXTS = ("null", "0", '"ü\\n\\u2028"', "1.5e300", '{"a": {"b": []}, "c": null}', "[1, [true, false], {}]")
ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HISTORY = """(start: "2030-01-01T11:59:55Z", end: "2030-01-01T12:00:15Z", intervalSeconds: %d,
  filter: {taskKey: {in: ["t"]}})"""


@dataclass
class LoopThreadDatabase:
    """A database that reads on the thread of the event loop.

    With reader threads, the order in which several fields fail is random, and so is the reported error.
    """

    database: SQLiteDatabase
    raw: sqlite3.Connection
    is_typed: bool

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        return work(SQLiteConnection(self.raw, format_timestamp(self.database.clock.now())))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


@dataclass
class Comparison:
    """A populated database, with one schema that uses the fast path and one that does not."""

    runner: asyncio.Runner
    database: LoopThreadDatabase
    task_runs: list[str] = field(default_factory=list[str])
    flow_runs: list[str] = field(default_factory=list[str])
    flows: list[str] = field(default_factory=list[str])
    deployments: list[str] = field(default_factory=list[str])
    fast: RunyardSchema = field(default_factory=build_schema)
    standard: RunyardSchema = field(
        default_factory=lambda: RunyardSchema(Query, Mutation, Subscription, SCALARS, use_fast_path=False)
    )

    def execute(self, schema: RunyardSchema, document: str, variables: dict[str, Any]) -> bytes:
        """Execute the document and return data and errors as bytes, without the ids of internal errors, which are random."""
        server = SimpleNamespace(version="1", database="SQLite", started_at="2030-01-01T12:00:00.000000Z")
        writes = CapacityCheckedWrites(QueueCapacity(max_scheduled=1000, max_retry=1000, is_shared=False))
        unused = cast("Any", None)
        context = Context.create(cast("Any", self.database), unused, unused, unused, writes, server)
        result = self.runner.run(schema.execute(document, variables, context))
        errors = orjson.dumps([each.formatted for each in result.errors or ()])
        return orjson.dumps(result.data) + (ID.sub(b"some id", errors) if b"INTERNAL" in errors else errors)


@pytest.fixture(scope="module", params=["invalid values", "valid values"])
def comparison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    path = tmp_path_factory.mktemp("fast path") / "runyard.db"
    is_typed = request.param != "invalid values"
    with asyncio.Runner() as runner, closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = runner.run(SQLiteDatabase.open(path, clock=ManualClock()))
        comparison = Comparison(runner, LoopThreadDatabase(database, raw, is_typed))
        runner.run(populate(comparison))
        delete_related_rows(path, comparison)
        if not is_typed:
            write_invalid_values(path, comparison)
        yield comparison
        runner.run(database.close())


async def populate(comparison: Comparison) -> None:
    """Create flow runs and task runs of all kinds.

    The last seven task runs stay valid. The flow of the one before them is deleted later, and the others get invalid values.
    """
    write, clock = comparison.database.write, comparison.database.clock
    assert isinstance(clock, ManualClock)
    flow = (await write(create_flows, NewFlow("flow", tags=["x"]))).flow
    deleted = (await write(create_flows, NewFlow("gone"))).flow
    deployment = (await write(create_deployments, NewDeployment("d", flow.id, ["d"], work_queue_name="q"))).deployment
    comparison.flows += [flow.id, deleted.id]
    comparison.deployments.append(deployment.id)
    await write(set_limits, LimitSetting("a", 100))
    for new in (
        NewFlowRun(flow.id),
        NewFlowRun(deployment_id=deployment.id, parameters='{"p": 1}', state=propose(StateType.RUNNING)),
        NewFlowRun(deleted.id),
        NewFlowRun(flow.id, retry_policy=FlowRunPolicy(2, 1.5)),
    ):
        comparison.flow_runs.append((await write(create_flow_runs, new)).flow_run.id)
    to_invalidate = [
        NewTaskRun("spoiled", str(number), flow_run_id=comparison.flow_runs[0])
        for number in range(len(INVALID_VALUES) + len(INVALID_STATE_VALUES))
    ]
    scheduled = propose(StateType.SCHEDULED, scheduled_time="2030-01-01T12:00:05.000000Z", transition_id=UNKNOWN_ID)
    running = comparison.flow_runs[1]
    valid = [
        NewTaskRun("t", "5", flow_run_id=comparison.flow_runs[2], parameters=JSON_TEXTS[5]),
        NewTaskRun("t", "1", tags=["a", "b", "ü"], parameters=JSON_TEXTS[4], task_inputs='{"x": []}', task_version="1"),
        NewTaskRun("t", "2", retry_policy=TaskRunPolicy(3, [1, 2.5], 0.5), cache_key="k", parameters=JSON_TEXTS[2]),
        NewTaskRun("t", "3", flow_run_id=running, parameters=JSON_TEXTS[0], tags=["a"]),
        NewTaskRun("t", "4", flow_run_id=running, parameters=JSON_TEXTS[3]),
        NewTaskRun("t", "6", state=scheduled),
        NewTaskRun("t", "7", retry_policy=TaskRunPolicy(0, [], None), parameters=JSON_TEXTS[1]),
        NewTaskRun("t", "8"),
    ]
    for new in to_invalidate + valid:
        comparison.task_runs.append((await write(create_task_runs, new)).task_run.id)
    for id in comparison.task_runs[-6:-4]:
        clock.advance(1.5)
        change = StateChange(id, propose(StateType.RUNNING, message="m", data='{"d": [1]}'))
        assert (await write(set_task_run_states, change)).state_created
    clock.advance(7.25)


def write_invalid_values(path: Path, comparison: Comparison) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        for id, assignment in zip(comparison.task_runs, INVALID_VALUES, strict=False):
            raw.execute(f"UPDATE task_run SET {assignment} WHERE id = ?", [id])  # noqa: S608
        for id, assignment in zip(comparison.task_runs[len(INVALID_VALUES) :], INVALID_STATE_VALUES, strict=False):
            raw.execute(f"UPDATE task_run_state SET {assignment} WHERE run_id = ?", [id])  # noqa: S608


def delete_related_rows(path: Path, comparison: Comparison) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DELETE FROM flow WHERE name = 'gone'")
        raw.execute("UPDATE flow_run SET deployment_id = ? WHERE id = ?", [UNKNOWN_ID, comparison.flow_runs[0]])


DIRECTIVES = (
    "@include(if: true)",
    "@skip(if: true)",
    "@include(if: false)",
    *(f"@{directive}(if: ${variable})" for directive in ("skip", "include") for variable in ("yes", "no", "perhaps")),
)
SWITCHES = {"yes": "Boolean!", "no": "Boolean!", "perhaps": "Boolean = true"}
VARIABLES = SWITCHES | {"task": "ID!", "flow": "ID!", "first": "Int = 8"}


class DocumentGenerator:
    """Generates random valid documents."""

    def __init__(self, comparison: Comparison, chance: Random) -> None:
        self.comparison = comparison
        self.chance = chance
        self.types = comparison.standard._schema.type_map
        self.fragments: list[str] = []
        self.variables: dict[str, Any] = {}

    def document(self) -> str:
        # At most one field may fail, because the order of the errors of several fields is random.
        fields = [self.root_field(self.any_field())]
        if self.chance.random() < 0.2:
            fields.insert(self.chance.randint(0, 1), self.root_field(self.chance.choice(self.infallible_fields())))
        text = "\n".join(["{ " + " ".join(f"r{n}: {field}" for n, field in enumerate(fields)) + " }", *self.fragments])
        used = [f"${name}: {type_}" for name, type_ in VARIABLES.items() if f"${name}" in text]
        return f"query({', '.join(used)}) {text}" if used else text

    def any_field(self) -> tuple[str, str]:
        comparison, pick = self.comparison, self.chance.choice
        return pick(
            [
                *[("taskRuns", f"(first: {self.value('first', pick([0, 1, 8, 8, 8, 50]))})")] * 4,
                *[("taskRun", f"(id: {self.value('task', pick([*comparison.task_runs, UNKNOWN_ID, 'x']))})")] * 4,
                *[("flowRun", f"(id: {self.value('flow', pick([*comparison.flow_runs, UNKNOWN_ID]))})")] * 4,
                *self.infallible_fields(),
            ]
        )

    def value(self, variable: str, value: Any) -> str:
        """Write the value as a literal, or as a variable that is sometimes not provided."""
        if self.chance.random() < 0.5:
            return json.dumps(value)
        self.variables[variable] = value
        if self.chance.random() < 0.1:
            del self.variables[variable]
        return f"${variable}"

    def infallible_fields(self) -> list[tuple[str, str]]:
        return [
            ("flow", f'(id: "{self.comparison.flows[0]}")'),
            ("deployment", f'(id: "{self.comparison.deployments[0]}")'),
            ("concurrencyLimits", ""),
            ("concurrencyLimit", '(tag: "a")'),
            ("server", ""),
            ("taskRunHistory", HISTORY % self.chance.choice([1, 5, 60])),
        ]

    def root_field(self, field: tuple[str, str]) -> str:
        name, arguments = field
        query = self.types["Query"]
        assert isinstance(query, GraphQLObjectType)
        return f"{name}{arguments}{self.directive()} {self.selection(get_named_type(query.fields[name].type), 5)}"

    def selection(self, type_: GraphQLNamedType, depth: int) -> str:
        assert isinstance(type_, GraphQLObjectType | GraphQLInterfaceType)
        return "{ " + " ".join(self.item(type_, depth) for _ in range(self.chance.randint(1, 7))) + " }"

    def item(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str:
        pick = self.chance.choice
        kind = pick(["field"] * 12 + ["typename", "inline", "named"])
        if kind in ("inline", "named") and depth > 0:
            on = pick([type_, *type_.interfaces])
            if kind == "inline":
                condition = pick(["", f"on {on.name}"]) if on is type_ else f"on {on.name}"
                return f"... {condition}{self.directive()} {self.selection(on, depth - 1)}"
            body = self.selection(on, depth - 1)
            name = f"F{len(self.fragments)}"
            self.fragments.append(f"fragment {name} on {on.name} {body}")
            return " ".join([f"...{name}{self.directive()}"] * pick([1, 1, 2]))
        names = [name for name, field in type_.fields.items() if depth > 0 or is_leaf_type(get_named_type(field.type))]
        if kind != "field" or not names:
            return f"{pick(['', 'a: '])}__typename{self.directive()}"
        name = pick(names)
        inner = get_named_type(type_.fields[name].type)
        alias = pick(["", "", "", f"x_{name}: ", f"y_{name}: "])
        return f"{alias}{name}{self.directive()} {'' if is_leaf_type(inner) else self.selection(inner, depth - 1)}"

    def directive(self) -> str:
        return f" {self.chance.choice(DIRECTIVES)}" if self.chance.random() < 0.08 else ""


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64))
def test_any_document_returns_the_bytes_of_the_standard_executor(comparison: Comparison, seed: int) -> None:
    generator = DocumentGenerator(comparison, Random(seed))  # noqa: S311
    document = generator.document()
    for yes in (True, False):
        switches = {name: yes != (name == "no") for name in SWITCHES if f"${name}:" in document}
        variables = switches | generator.variables
        note(f"{document}\n{variables}")

        expected = comparison.execute(comparison.standard, document, variables)

        assert comparison.execute(comparison.fast, document, variables) == expected
        assert comparison.execute(comparison.fast, document, variables) == expected


RUN = "id name tags state { type details { transitionId } } flowRun { name flow { tags } deployment { name } }"


@pytest.mark.parametrize(
    "document",
    [
        "{ taskRuns(first: 8) { __typename } }",
        "{ taskRuns(first: 8) { totalCount } }",
        "{ taskRuns(first: 8) { nodes { __typename } edges { __typename } } }",
        "{ taskRuns(first: 8) { nodes { id } other: nodes { name } } }",
        "{ taskRuns(first: 8) { edges { cursor node { id } } nodes { name } pageInfo { endCursor } totalCount } }",
        "{ taskRuns(first: 8) { nodes { states { type } id queueEntry { attempt } name } } }",
        # The same AST node is merged with another selection in one place, and used alone in the other.
        "{ taskRuns { nodes { ...F state { name } queueEntry { attempt } } edges { node { ...F states { id } } } } } "
        "fragment F on TaskRun { state { id } }",
        f"{{ taskRuns(first: 50) {{ edges {{ node {{ {RUN} }} }} }} }}",
        "{ __typename server { __typename } __schema { queryType { name } } }",
        f'mutation {{ setTaskRunState(id: "{UNKNOWN_ID}", state: {{type: RUNNING}}) {{ taskRun {{ id }} }} }}',
        f'mutation {{ acknowledgeTaskRuns(leaseIds: ["{UNKNOWN_ID}"]) {{ leases {{ __typename leaseId status }} }} }}',
        f'mutation {{ deleteTaskRun(id: "{UNKNOWN_ID}") {{ deletedId }} }}',
    ],
)
def test_this_document_returns_the_bytes_of_the_standard_executor(comparison: Comparison, document: str) -> None:
    expected = comparison.execute(comparison.standard, document, {})

    assert comparison.execute(comparison.fast, document, {}) == expected


@pytest.mark.parametrize("extra", ["", "queueEntry { attempt }"], ids=["row", "record"])
def test_each_field_of_each_run_returns_the_bytes_of_the_standard_executor(comparison: Comparison, extra: str) -> None:
    documents = {
        f"query($id: ID!) {{ {run}(id: $id) {{ {field} {extra if run == 'taskRun' else ''} }} }}": ids
        for run, type_name, ids in (
            ("taskRun", "TaskRun", comparison.task_runs),
            ("flowRun", "FlowRun", comparison.flow_runs),
        )
        for field in leaf_selections(comparison, type_name)
    }
    for document, ids in documents.items():
        for id in ids:
            expected = comparison.execute(comparison.standard, document, {"id": id})
            assert comparison.execute(comparison.fast, document, {"id": id}) == expected, document


def leaf_selections(comparison: Comparison, type_name: str) -> Iterator[str]:
    """Yield a selection for each leaf of the type and of its nested objects."""
    type_ = comparison.standard._schema.type_map[type_name]
    assert isinstance(type_, GraphQLObjectType)
    for name in type_.fields:
        inner = get_named_type(type_.fields[name].type)
        if is_leaf_type(inner):
            yield name
        elif isinstance(inner, GraphQLObjectType) and inner.name not in ("TaskRun", "FlowRun"):
            yield from (f"{name} {{ {leaf} }}" for leaf in leaf_selections(comparison, inner.name))


def test_bulk_results_have_the_bytes_of_the_standard_executor(comparison: Comparison) -> None:
    document = """mutation($inputs: [TaskRunStateChangeInput!]!) { setTaskRunStates(inputs: $inputs) { results {
        taskRunId error { code message argument }
        result { status stateCreated reason state { id name } taskRun { id tags flowRun { id } } }
    } } }"""
    state = {"type": "RUNNING", "details": {"transitionId": UNKNOWN_ID}}
    inputs = [
        {"taskRunId": id, "state": state} for id in (comparison.task_runs[-1], UNKNOWN_ID, comparison.task_runs[-2])
    ]
    comparison.execute(comparison.standard, document, {"inputs": inputs})

    # Repeated transitions change nothing, so both schemas can execute them.
    expected = comparison.execute(comparison.standard, document, {"inputs": inputs})

    assert comparison.execute(comparison.fast, document, {"inputs": inputs}) == expected
    assert expected.count(b'"error":{"code":"NOT_FOUND"') == 1
    assert expected.count(b'"stateCreated":false') == 2


def test_each_combination_of_directive_values_has_its_own_result(comparison: Comparison) -> None:
    names = ("id", "name", "taskKey", "tags", "stateName")
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name} @include(if: ${name})" for name in names)
    document = f"query({declared}) {{ taskRuns(first: 2) {{ nodes {{ {fields} }} }} }}"

    for values in itertools.product((True, False), repeat=len(names)):
        variables = dict(zip(names, values, strict=True))
        result = comparison.execute(comparison.fast, document, variables)

        assert result == comparison.execute(comparison.standard, document, variables)
        assert [list(node) for node in orjson.loads(result[:-2])["taskRuns"]["nodes"]] == [
            [name for name in names if variables[name]]
        ] * 2


def test_multiplying_fragments_return_the_bytes_of_the_standard_executor(comparison: Comparison) -> None:
    # 8 * 8 * 8 times the fields of a state.
    levels = ["a", "b", "c", "d", "e", "f", "g", "h"]
    fragments = " ".join(
        [
            f"fragment F0 on FlowRun {{ {' '.join(f'{each}: state {{ id name type }}' for each in levels)} }}",
            f"fragment F1 on TaskRun {{ {' '.join(f'{each}: flowRun {{ ...F0 }}' for each in levels)} }}",
            f"fragment F2 on TaskRunConnection {{ {' '.join(f'{each}: nodes {{ ...F1 }}' for each in levels)} }}",
        ]
    )
    document = f"{{ taskRuns(first: 2) {{ ...F2 }} }} {fragments}"

    assert comparison.execute(comparison.fast, document, {}) == comparison.execute(comparison.standard, document, {})


def count_graphql_core_calls(comparison: Comparison, document: str) -> int:
    """Count the calls of graphql-core functions in one execution of a cached document."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "/graphql/" in frame.f_code.co_filename

    for _ in range(2):
        comparison.execute(comparison.fast, document, {})
    sys.setprofile(count)
    try:
        comparison.execute(comparison.fast, document, {})
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "page",
    [
        f"nodes {{ {RUN} }}",
        f"edges {{ cursor node {{ {RUN} }} }}",
        "nodes { id estimatedRunTimeSeconds retryPolicy { retries } parameters }",
    ],
)
def test_graphql_core_calls_do_not_grow_with_the_page_size(comparison: Comparison, page: str) -> None:
    one = count_graphql_core_calls(comparison, f"{{ taskRuns(first: 1) {{ {page} }} }}")

    assert count_graphql_core_calls(comparison, f"{{ taskRuns(first: 7) {{ {page} }} }}") == one


def test_graphql_core_calls_do_not_grow_with_the_history_intervals(comparison: Comparison) -> None:
    intervals = "{ start end states { stateType stateName countRuns sumEstimatedRunTimeSeconds } }"
    one = count_graphql_core_calls(comparison, f"{{ taskRunHistory{HISTORY % 60} {intervals} }}")

    assert count_graphql_core_calls(comparison, f"{{ taskRunHistory{HISTORY % 1} {intervals} }}") == one


def test_graphql_core_calls_do_not_grow_with_additional_plain_fields(comparison: Comparison) -> None:
    few = count_graphql_core_calls(comparison, "{ taskRuns(first: 8) { nodes { id states { id } } } }")
    many = "id name tags taskKey createdAt state { id details { cacheKey } } states { id type name timestamp data }"

    assert count_graphql_core_calls(comparison, f"{{ taskRuns(first: 8) {{ nodes {{ {many} }} }} }}") == few


def test_only_the_selected_columns_are_read(comparison: Comparison) -> None:
    statements: list[str] = []
    comparison.database.raw.set_trace_callback(statements.append)

    comparison.execute(comparison.fast, "{ taskRuns(first: 1) { nodes { name flowRun { flow { name } } } } }", {})

    comparison.database.raw.set_trace_callback(None)
    (statement,) = statements
    columns = statement.split("\n")[0].removeprefix("SELECT ").split(", ")
    # Cursors need the sort key and the id.
    assert [column.split(" ")[0] for column in columns] == [
        "task_run.id",
        "task_run.id",
        "task_run.name",
        "the_flow_run.id",
        "the_flow_run_flow.id",
        "the_flow_run_flow.name",
    ]
