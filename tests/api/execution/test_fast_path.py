"""Plain data that skips the interpreter is answered byte for byte as it would be without the shortcut."""

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
from db.records import FlowRunPolicy, StateDetails, TaskRunPolicy
from db.runtime.timestamps import instant
from db.sqlite.database import SQLiteDatabase
from resolvers.concurrency_limits import WantedLimit, create_limits
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewDeployment, NewFlow, create_deployments, create_flows
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.capacity import QueueBounds
from resolvers.task_runs import NewTaskRun, create_task_runs
from resolvers.transitions.set_states import StateChange, set_task_run_states
from resolvers.write_operations import BoundedWrites
from schema.context import Context
from schema.execution.engine import RunyardSchema
from schema.mutation import Mutation
from schema.query import Query
from schema.root import build_schema
from schema.scalars import SCALARS
from schema.subscription import Subscription
from tests.clock import ManualClock

SPOILERS = (
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
STATE_SPOILERS = (
    """details = '{"pause_reschedule": null}'""",
    """details = '{"cache_key": 5, "retriable": 1}'""",
    """details = '{"unknown": 5}'""",
    "details = 'no JSON'",
    "message = X'6162'",
)
"""What a row can hold that is no answer, or is another one than it looks like."""

JSON_TEXTS = ("null", "0", '"ü\\n\\u2028"', "1.5e300", '{"a": {"b": []}, "c": null}', "[1, [true, false], {}]")
ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HISTORY = """(start: "2030-01-01T11:59:55Z", end: "2030-01-01T12:00:15Z", intervalSeconds: %d,
  filter: {taskKey: {any: ["t"]}})"""
MISSING = "00000000-0000-7000-8000-000000000000"


@dataclass
class ReadsAtOnce:
    """The database, but it reads on the event loop's own thread: with threads, chance decides in which order several
    fields fail, and so whose error is told."""

    database: SQLiteDatabase
    raw: sqlite3.Connection
    is_typed: bool

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        return work(SQLiteConnection(self.raw, instant(self.database.clock.now())))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


@dataclass
class Ground:
    """A populated database, and a schema that takes the shortcut beside one that does not."""

    runner: asyncio.Runner
    database: ReadsAtOnce
    task_runs: list[str] = field(default_factory=list[str])
    flow_runs: list[str] = field(default_factory=list[str])
    flows: list[str] = field(default_factory=list[str])
    deployments: list[str] = field(default_factory=list[str])
    fast: RunyardSchema = field(default_factory=build_schema)
    ordinary: RunyardSchema = field(
        default_factory=lambda: RunyardSchema(Query, Mutation, Subscription, SCALARS, write_plain_data=False)
    )

    def answer(self, schema: RunyardSchema, document: str, variables: dict[str, Any]) -> bytes:
        """All that a client would get, save for the ids of faults, which differ each time."""
        server = SimpleNamespace(version="1", database="SQLite", started_at="2030-01-01T12:00:00.000000Z")
        writes = BoundedWrites(QueueBounds(max_scheduled=1000, max_retry=1000, is_shared=False))
        context = Context.of(cast("Any", self.database), cast("Any", None), cast("Any", None), writes, server)
        result = self.runner.run(schema.execute(document, variables, context))
        errors = orjson.dumps([each.formatted for each in result.errors or ()])
        return orjson.dumps(result.data) + (ID.sub(b"some id", errors) if b"INTERNAL" in errors else errors)


@pytest.fixture(scope="module", params=["any values", "values of their columns' types"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    path = tmp_path_factory.mktemp("fast path") / "runyard.db"
    is_typed = request.param != "any values"
    with asyncio.Runner() as runner, closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = runner.run(SQLiteDatabase.open(path, clock=ManualClock()))
        ground = Ground(runner, ReadsAtOnce(database, raw, is_typed))
        runner.run(populate(ground))
        lose_what_belongs_to_runs(path, ground)
        if not is_typed:
            spoil(path, ground)
        yield ground
        runner.run(database.close())


def proposed(type: StateType, **more: Any) -> ProposedState:
    return ProposedState(type, type.default_name, **more)


async def populate(ground: Ground) -> None:
    """Flow runs and task runs of all kinds. The last seven task runs are sound; the flow of the one before is to be gone,
    and the others are to be spoiled."""
    write, clock = ground.database.write, ground.database.clock
    assert isinstance(clock, ManualClock)
    flow = (await write(create_flows, NewFlow("flow", tags=["x"]))).flow
    gone = (await write(create_flows, NewFlow("gone"))).flow
    deployment = (await write(create_deployments, NewDeployment("d", flow.id, ["d"], work_queue_name="q"))).deployment
    ground.flows += [flow.id, gone.id]
    ground.deployments.append(deployment.id)
    await write(create_limits, WantedLimit("a", 100))
    for new in (
        NewFlowRun(flow.id),
        NewFlowRun(deployment_id=deployment.id, parameters='{"p": 1}', state=proposed(StateType.RUNNING)),
        NewFlowRun(gone.id),
        NewFlowRun(flow.id, policy=FlowRunPolicy(2, 1.5)),
    ):
        ground.flow_runs.append((await write(create_flow_runs, new)).flow_run.id)
    spoiled = [
        NewTaskRun("spoiled", str(number), flow_run_id=ground.flow_runs[0])
        for number in range(len(SPOILERS) + len(STATE_SPOILERS))
    ]
    scheduled = StateDetails(scheduled_time="2030-01-01T12:00:05.000000Z", transition_id=MISSING)
    running = ground.flow_runs[1]
    sound = [
        NewTaskRun("t", "5", flow_run_id=ground.flow_runs[2], parameters=JSON_TEXTS[5]),
        NewTaskRun("t", "1", tags=["a", "b", "ü"], parameters=JSON_TEXTS[4], task_inputs='{"x": []}', task_version="1"),
        NewTaskRun("t", "2", policy=TaskRunPolicy(3, [1, 2.5], 0.5), cache_key="k", parameters=JSON_TEXTS[2]),
        NewTaskRun("t", "3", flow_run_id=running, parameters=JSON_TEXTS[0], tags=["a"]),
        NewTaskRun("t", "4", flow_run_id=running, parameters=JSON_TEXTS[3]),
        NewTaskRun("t", "6", state=proposed(StateType.SCHEDULED, details=scheduled)),
        NewTaskRun("t", "7", policy=TaskRunPolicy(0, [], None), parameters=JSON_TEXTS[1]),
        NewTaskRun("t", "8"),
    ]
    for new in spoiled + sound:
        ground.task_runs.append((await write(create_task_runs, new)).task_run.id)
    for id in ground.task_runs[-6:-4]:
        clock.advance(1.5)
        change = StateChange(id, proposed(StateType.RUNNING, message="m", data='{"d": [1]}'))
        assert (await write(set_task_run_states, change)).created
    clock.advance(7.25)


def spoil(path: Path, ground: Ground) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        for id, spoiler in zip(ground.task_runs, SPOILERS, strict=False):
            raw.execute(f"UPDATE task_run SET {spoiler} WHERE id = ?", [id])  # noqa: S608
        for id, spoiler in zip(ground.task_runs[len(SPOILERS) :], STATE_SPOILERS, strict=False):
            raw.execute(f"UPDATE task_run_state SET {spoiler} WHERE run_id = ?", [id])  # noqa: S608


def lose_what_belongs_to_runs(path: Path, ground: Ground) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DELETE FROM flow WHERE name = 'gone'")
        raw.execute("UPDATE flow_run SET deployment_id = ? WHERE id = ?", [MISSING, ground.flow_runs[0]])


# --- documents ---

DIRECTIVES = (
    "@include(if: true)",
    "@skip(if: true)",
    "@include(if: false)",
    *(f"@{directive}(if: ${variable})" for directive in ("skip", "include") for variable in ("yes", "no", "perhaps")),
)
SWITCHES = {"yes": "Boolean!", "no": "Boolean!", "perhaps": "Boolean = true"}
VARIABLES = SWITCHES | {"task": "ID!", "flow": "ID!", "first": "Int = 8"}


class Author:
    """Writes documents that are valid, whatever they ask for."""

    def __init__(self, ground: Ground, chance: Random) -> None:
        self.ground = ground
        self.chance = chance
        self.types = ground.ordinary._schema.type_map
        self.fragments: list[str] = []
        self.variables: dict[str, Any] = {}

    def document(self) -> str:
        # At most one field that may fail: of fields that fail at the same time, chance decides whose error is told.
        fields = [self.root_field(self.any_field())]
        if self.chance.random() < 0.2:
            fields.insert(self.chance.randint(0, 1), self.root_field(self.chance.choice(self.sound_fields())))
        text = "\n".join(["{ " + " ".join(f"r{n}: {field}" for n, field in enumerate(fields)) + " }", *self.fragments])
        used = [f"${name}: {type_}" for name, type_ in VARIABLES.items() if f"${name}" in text]
        return f"query({', '.join(used)}) {text}" if used else text

    def any_field(self) -> tuple[str, str]:
        ground, pick = self.ground, self.chance.choice
        return pick(
            [
                *[("taskRuns", f"(first: {self.value('first', pick([0, 1, 8, 8, 8, 50]))})")] * 4,
                *[("taskRun", f"(id: {self.value('task', pick([*ground.task_runs, MISSING, 'x']))})")] * 4,
                *[("flowRun", f"(id: {self.value('flow', pick([*ground.flow_runs, MISSING]))})")] * 4,
                *self.sound_fields(),
            ]
        )

    def value(self, variable: str, value: Any) -> str:
        """The value as it is written, or a variable that has it, or has none."""
        if self.chance.random() < 0.5:
            return json.dumps(value)
        self.variables[variable] = value
        if self.chance.random() < 0.1:
            del self.variables[variable]
        return f"${variable}"

    def sound_fields(self) -> list[tuple[str, str]]:
        return [
            ("flow", f'(id: "{self.ground.flows[0]}")'),
            ("deployment", f'(id: "{self.ground.deployments[0]}")'),
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
        below = get_named_type(type_.fields[name].type)
        alias = pick(["", "", "", f"x_{name}: ", f"y_{name}: "])
        return f"{alias}{name}{self.directive()} {'' if is_leaf_type(below) else self.selection(below, depth - 1)}"

    def directive(self) -> str:
        return f" {self.chance.choice(DIRECTIVES)}" if self.chance.random() < 0.08 else ""


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64))
def test_any_document_is_answered_byte_for_byte_as_without_the_fast_path(ground: Ground, seed: int) -> None:
    author = Author(ground, Random(seed))  # noqa: S311
    document = author.document()
    for yes in (True, False):
        switches = {name: yes != (name == "no") for name in SWITCHES if f"${name}:" in document}
        variables = switches | author.variables
        note(f"{document}\n{variables}")

        expected = ground.answer(ground.ordinary, document, variables)

        assert ground.answer(ground.fast, document, variables) == expected
        assert ground.answer(ground.fast, document, variables) == expected


# --- documents of some interest ---

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
        # One node of the document, merged with another in one place and alone in the other.
        "{ taskRuns { nodes { ...F state { name } queueEntry { attempt } } edges { node { ...F states { id } } } } } "
        "fragment F on TaskRun { state { id } }",
        f"{{ taskRuns(first: 50) {{ edges {{ node {{ {RUN} }} }} }} }}",
        "{ __typename server { __typename } __schema { queryType { name } } }",
        f'mutation {{ setTaskRunState(id: "{MISSING}", state: {{type: RUNNING}}) {{ taskRun {{ id }} }} }}',
        f'mutation {{ acknowledgeTaskRuns(leaseIds: ["{MISSING}", "{MISSING}"]) {{ __typename leaseId status }} }}',
    ],
)
def test_this_document_is_answered_as_without_the_fast_path(ground: Ground, document: str) -> None:
    expected = ground.answer(ground.ordinary, document, {})

    assert ground.answer(ground.fast, document, {}) == expected


@pytest.mark.parametrize("beside", ["", "queueEntry { attempt }"], ids=["row", "record"])
def test_each_field_of_each_run_is_answered_as_without_the_fast_path(ground: Ground, beside: str) -> None:
    documents = {
        f"query($id: ID!) {{ {run}(id: $id) {{ {field} {beside if run == 'taskRun' else ''} }} }}": ids
        for run, type_name, ids in (
            ("taskRun", "TaskRun", ground.task_runs),
            ("flowRun", "FlowRun", ground.flow_runs),
        )
        for field in every_field(ground, type_name)
    }
    for document, ids in documents.items():
        for id in ids:
            expected = ground.answer(ground.ordinary, document, {"id": id})
            assert ground.answer(ground.fast, document, {"id": id}) == expected, document


def every_field(ground: Ground, type_name: str) -> Iterator[str]:
    """Each leaf of the type and of the objects in it, with the way there."""
    type_ = ground.ordinary._schema.type_map[type_name]
    assert isinstance(type_, GraphQLObjectType)
    for name in type_.fields:
        below = get_named_type(type_.fields[name].type)
        if is_leaf_type(below):
            yield name
        elif isinstance(below, GraphQLObjectType) and below.name not in ("TaskRun", "FlowRun"):
            yield from (f"{name} {{ {leaf} }}" for leaf in every_field(ground, below.name))


def test_bulk_results_are_answered_as_without_the_fast_path(ground: Ground) -> None:
    document = """mutation($inputs: [TaskRunStateChangeInput!]!) { setTaskRunStates(inputs: $inputs) {
        id error { code message } result { status created reason state { id name } taskRun { id tags flowRun { id } } }
    } }"""
    state = {"type": "RUNNING", "details": {"transitionId": MISSING}}
    inputs = [{"id": id, "state": state} for id in (ground.task_runs[-1], MISSING, ground.task_runs[-2])]
    ground.answer(ground.ordinary, document, {"inputs": inputs})

    # The same transitions again change nothing, so that both can be asked.
    expected = ground.answer(ground.ordinary, document, {"inputs": inputs})

    assert ground.answer(ground.fast, document, {"inputs": inputs}) == expected
    assert expected.count(b'"error":{"code":"NOT_FOUND"') == 1
    assert expected.count(b'"created":false') == 2


def test_every_set_of_values_for_the_directives_gets_its_own_answer(ground: Ground) -> None:
    names = ("id", "name", "taskKey", "tags", "stateName")
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name} @include(if: ${name})" for name in names)
    document = f"query({declared}) {{ taskRuns(first: 2) {{ nodes {{ {fields} }} }} }}"

    for values in itertools.product((True, False), repeat=len(names)):
        variables = dict(zip(names, values, strict=True))
        answer = ground.answer(ground.fast, document, variables)

        assert answer == ground.answer(ground.ordinary, document, variables)
        assert [list(node) for node in orjson.loads(answer[:-2])["taskRuns"]["nodes"]] == [
            [name for name in names if variables[name]]
        ] * 2


def test_fragments_that_multiply_are_answered_too(ground: Ground) -> None:
    # Eight times eight times eight times the fields of a state.
    levels = ["a", "b", "c", "d", "e", "f", "g", "h"]
    fragments = " ".join(
        [
            f"fragment F0 on FlowRun {{ {' '.join(f'{each}: state {{ id name type }}' for each in levels)} }}",
            f"fragment F1 on TaskRun {{ {' '.join(f'{each}: flowRun {{ ...F0 }}' for each in levels)} }}",
            f"fragment F2 on TaskRunConnection {{ {' '.join(f'{each}: nodes {{ ...F1 }}' for each in levels)} }}",
        ]
    )
    document = f"{{ taskRuns(first: 2) {{ ...F2 }} }} {fragments}"

    assert ground.answer(ground.fast, document, {}) == ground.answer(ground.ordinary, document, {})


# --- what it is for ---


def calls_of_graphql_core(ground: Ground, document: str) -> int:
    """How many functions of graphql-core answering takes, once the document is known."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "/graphql/" in frame.f_code.co_filename

    for _ in range(2):
        ground.answer(ground.fast, document, {})
    sys.setprofile(count)
    try:
        ground.answer(ground.fast, document, {})
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "page",
    [
        f"nodes {{ {RUN} }}",
        f"edges {{ cursor node {{ {RUN} }} }}",
        "nodes { id estimatedRunTimeSeconds empiricalPolicy { retries } parameters }",
    ],
)
def test_a_page_of_plain_data_takes_no_more_of_graphql_core_than_one_run(ground: Ground, page: str) -> None:
    one = calls_of_graphql_core(ground, f"{{ taskRuns(first: 1) {{ {page} }} }}")

    assert calls_of_graphql_core(ground, f"{{ taskRuns(first: 7) {{ {page} }} }}") == one


def test_a_history_takes_no_more_of_graphql_core_for_more_intervals(ground: Ground) -> None:
    intervals = "{ start end states { stateType stateName countRuns sumEstimatedRunTimeSeconds } }"
    one = calls_of_graphql_core(ground, f"{{ taskRunHistory{HISTORY % 60} {intervals} }}")

    assert calls_of_graphql_core(ground, f"{{ taskRunHistory{HISTORY % 1} {intervals} }}") == one


def test_more_plain_fields_beside_one_that_is_not_take_no_more_of_graphql_core(ground: Ground) -> None:
    few = calls_of_graphql_core(ground, "{ taskRuns(first: 8) { nodes { id states { id } } } }")
    many = "id name tags taskKey created state { id details { cacheKey } } states { id type name timestamp data }"

    assert calls_of_graphql_core(ground, f"{{ taskRuns(first: 8) {{ nodes {{ {many} }} }} }}") == few


def test_only_the_columns_that_are_asked_for_are_read(ground: Ground) -> None:
    asked: list[str] = []
    ground.database.raw.set_trace_callback(asked.append)

    ground.answer(ground.fast, "{ taskRuns(first: 1) { nodes { name flowRun { flow { name } } } } }", {})

    ground.database.raw.set_trace_callback(None)
    (statement,) = asked
    columns = statement.split("\n")[0].removeprefix("SELECT ").split(", ")
    # The key of the order and the id are for the cursors.
    assert [column.split(" ")[0] for column in columns] == [
        "task_run.id",
        "task_run.id",
        "task_run.name",
        "the_flow_run.id",
        "the_flow_run_flow.id",
        "the_flow_run_flow.name",
    ]
