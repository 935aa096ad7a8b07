"""Limits on one document. An exceeded limit is reported before execution, quickly, with its name and value."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query
from pydantic import ValidationError
from strawberry.types.execution import PreExecutionError

from queries import document
from runyard.settings import Settings
from schema.execution.engine import RunyardSchema
from schema.execution.operation import MAX_CACHED_SELECTIONS
from schema.limits.options import DEFAULT_OPTIONS, EngineOptions, RequestLimits
from schema.mutation import Mutation
from schema.query import Query
from schema.root import build_schema
from schema.scalars import SCALARS
from schema.subscription import Subscription
from tests.client import Client
from tests.hostile.heavy_documents import HEAVY_DOCUMENTS
from tests.serving import SQLITE_ONLY, run_server

pytestmark = SQLITE_ONLY

MAX_CPU_RATIO = 30
"""CPU time that validating a document may take, since it blocks the event loop, in multiples of the introspection query."""

INTROSPECTION = get_introspection_query(descriptions=True, input_value_deprecation=True)


def limit_error(query: str, **limits: int) -> dict[str, Any] | None:
    """Return the extensions of the only error, without its code; None when the document is valid."""
    errors = build_schema(EngineOptions(RequestLimits(**limits))).documents.get(query).errors
    if not errors:
        return None
    (error,) = errors
    extensions = dict(error.extensions or {})
    assert extensions.pop("code") == "QUERY_TOO_COMPLEX"
    return extensions


def fragment_bomb(levels: int) -> str:
    """Write a document whose fragments each spread the next one twice."""
    fragments = [f"fragment F{n} on TaskRun {{ id ...F{n + 1} ...F{n + 1} }}" for n in range(levels)]
    return f"{{ taskRuns {{ nodes {{ ...F0 }} }} }} {' '.join(fragments)} fragment F{levels} on TaskRun {{ id }}"


LIMITED_DOCUMENTS: dict[str, tuple[str, Callable[[int], str]]] = {
    "characters": ("characters", "{a}".ljust),
    "depth": ("depth", lambda count: "{ " + "a { " * (count - 1) + "b" + " }" * (count - 1) + " }"),
    "aliases": ("aliases", lambda count: "{ " + " ".join(f"a{n}: __typename" for n in range(count)) + " }"),
    "directives": ("directives", lambda count: "{ __typename " + "@skip(if: false) " * count + "}"),
    "fields": ("fields", lambda count: "{ server { " + " ".join("version" for _ in range(count - 1)) + " } }"),
    "root_fields": ("rootFields", lambda count: "{ " + " ".join(f"a{n}: __typename" for n in range(count)) + " }"),
    "repeats": ("repeats", lambda count: "{ server { " + "version " * count + "} }"),
}
"""For each limit: its name in errors, and a function that writes a document with exactly `count` of its items."""


@pytest.mark.parametrize("limit", LIMITED_DOCUMENTS)
def test_an_exceeded_limit_is_reported_with_its_name_and_both_counts(limit: str) -> None:
    name, write = LIMITED_DOCUMENTS[limit]
    wide = dict.fromkeys(["characters", "depth", "aliases", "directives", "fields", "root_fields", "repeats"], 500)

    assert limit_error(write(8), **wide | {limit: 7}) == {"limit": name, "allowed": 7, "found": 8}


@pytest.mark.parametrize("limit", ["aliases", "fields", "root_fields", "repeats"])
def test_a_document_at_a_limit_is_valid(limit: str) -> None:
    _, write = LIMITED_DOCUMENTS[limit]

    assert limit_error(write(8), **{limit: 8}) is None


def test_fields_may_nest_fifteen_deep() -> None:
    deepest = "{ flowRuns(first: 1) { nodes { " + "parentTaskRun { flowRun { " * 6 + "id" + " } }" * 6 + " } } }"
    deeper = deepest.replace("id", "flow { id }")

    assert limit_error(deepest) is None
    assert limit_error(deeper) == {"limit": "depth", "allowed": 15, "found": 16}


def test_tokens_are_counted_while_parsing() -> None:
    assert limit_error("{ server { version version } }", tokens=5) == {"limit": "tokens", "allowed": 5}
    assert limit_error("{ server { version version } }", tokens=9) is None


def test_an_alias_may_have_a_hundred_characters() -> None:
    document = "fragment F on TaskRun { %s: id } { taskRuns { nodes { ...F } } }"

    assert limit_error(document % ("a" * 100)) is None
    assert limit_error(document % ("a" * 101)) == {"limit": "aliasCharacters", "allowed": 100, "found": 101}


def test_a_document_may_have_ten_thousand_lines() -> None:
    assert limit_error("\n" * 9999 + "{ __typename }") is None
    assert limit_error("\r\n" * 9999 + "{ __typename }") is None
    for end in ("\n", "\r\n", "\r"):
        error = limit_error(end * 10_000 + "{ __typename }")
        assert error == {"limit": "lines", "allowed": 10_000, "found": 10_001}


def test_the_fields_of_a_fragment_count_at_each_spread() -> None:
    query = "{ one: server { ...F } two: server { ...F } } fragment F on ServerInfo { a: version b: version }"

    assert limit_error(query, aliases=5) == {"limit": "aliases", "allowed": 5, "found": 6}
    assert limit_error(query, fields=7) == {"limit": "fields", "allowed": 7, "found": 8}


def test_the_introspection_query_of_tools_is_within_the_default_limits() -> None:
    assert limit_error(INTROSPECTION) is None


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which would scan all objects of the test run; a server freezes its own at startup."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize(
    "query",
    [
        *HEAVY_DOCUMENTS.values(),
        fragment_bomb(64),
        "{ " + " ".join(f"a{n}: __typename" for n in range(20_000)) + " }",
        "{ taskRuns { nodes { " + "state { id } " * 300 + "} } }",
        "{ server { version } } fragment Unused on TaskRun { " + "state { id } " * 300 + "}",
        "{ taskRuns { nodes { ...F } } } fragment F on TaskRun { ...F " + "state { id } " * 300 + "}",
        "{ " + "taskRuns { nodes { state { id } } } " * 150 + "}",
        "{ server { " + " ".join(f"versio{n}" for n in range(900)) + " } }",
        "{ " + "... { " * 190 + "__typename " + "} " * 190 + "}",
        " ".join(f"fragment F{n} on Query {{ ... {{ ... {{ ... {{ ...F{n + 1} }} }} }} }}" for n in range(100))
        + " fragment F100 on Query { id } query { ...F0 }",
        "{ " + "taskRuns { nodes { state { id type name timestamp } } } " * 30 + "}",
        "{ " + "a" * 3_900_000 + " }",
    ],
    ids=[
        *HEAVY_DOCUMENTS,
        "bomb",
        "aliases",
        "repeats",
        "unused",
        "cycle",
        "nested",
        "unknown",
        "inline",
        "chain",
        "within",
        "long",
    ],
)
def test_validating_any_document_takes_bounded_cpu_time(query: str) -> None:
    schema = build_schema()

    def validate(query: str) -> float:
        """Return the CPU time of validating the document and of formatting its errors."""
        started_at = time.thread_time()
        operation = schema.documents.select_operation(schema.documents._parse_and_validate(query), None)
        if isinstance(operation, PreExecutionError):
            assert [error.formatted for error in operation.errors or ()]
        return time.thread_time() - started_at

    introspection = min(validate(INTROSPECTION) for _ in range(3))
    assert min(validate(query) for _ in range(3)) < MAX_CPU_RATIO * introspection


def test_the_first_validation_errors_are_reported_with_suggestions() -> None:
    errors = (
        build_schema()
        .documents.get("{ server { " + " ".join(f"versio{number}" for number in range(900)) + " } }")
        .errors
    )

    first, *_, last = errors
    assert first.message == "Cannot query field 'versio0' on type 'ServerInfo'. Did you mean 'version'?"
    assert last.message == "Too many validation errors, error limit reached. Validation aborted."
    assert len(errors) == 6


def test_the_document_cache_is_limited_by_total_size() -> None:
    schema = RunyardSchema(Query, Mutation, Subscription, SCALARS)
    large = [f"{{ __typename }}{number:>32000}" for number in range(10)]

    for query in large:
        schema.documents.get(query)

    assert 160_000 < sum(map(len, schema.documents._documents)) <= 200_000
    assert list(schema.documents._documents) == large[-len(schema.documents._documents) :]


def test_all_operations_of_a_document_share_one_limit_of_cached_selections() -> None:
    schema, switches = build_schema(), [(a, b) for a in (True, False) for b in (True, False)]
    names = ["A", "B", "C"]
    query = " ".join(
        f"query {name}($a: Boolean!, $b: Boolean!) {{ __typename @skip(if: $a) @include(if: $b) }}" for name in names
    )

    for name in names:
        for a, b in switches:
            result = asyncio.run(schema.execute(query, {"a": a, "b": b}, operation_name=name))
            assert result.data == ({"__typename": "Query"} if b and not a else {})

    operations = schema.documents.get(query).operations.values()
    (cached,) = {id(each._selection_cache): each._selection_cache for each in operations}.values()
    assert len(cached) == MAX_CACHED_SELECTIONS == 8


def cost_of(query: str, options: EngineOptions = DEFAULT_OPTIONS) -> int:
    document = build_schema(options).documents.get(query)
    assert document.analysis is not None
    ((analysis),) = document.analysis.operations.values()
    return analysis.max_cost


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ __typename }", 1),
        ("{ server { version database } }", 22),
        ("{ taskRuns(first: 7) { nodes { id name } } }", 60 + 1 + 7 * 3),
        ("{ taskRuns(last: 7) { edges { cursor node { id } } } }", 60 + 1 + 7 * (1 + 1 + 2)),
        ("{ taskRuns { nodes { id } } }", 60 + 1 + 50 * 2),
        ("{ taskRuns(first: 99999) { nodes { id } } }", 60 + 1 + 1000 * 2),
        ("{ taskRuns(first: 2) { nodes { id } nodes { id } } }", 60 + 1 + 2 * 2),
        (
            "{ flowRuns(first: 3) { nodes { taskRuns(first: 5) { nodes { id } } } } }",
            60 + 1 + 3 * (1 + 60 + 1 + 5 * 2),
        ),
        ('{ nodes(ids: ["a", "b"]) { id } }', 20 + 2 * 2),
        ("query Q($first: Int) { taskRuns(first: $first) { nodes { id } } }", 60 + 1 + 1000 * 2),
        ("mutation { cancelTaskRuns(filter: {}, limit: 7) { rejections { reason } } }", 20 + 1 + 7 * 2),
        ("mutation { cancelTaskRuns(filter: {}) { rejections { reason } } }", 20 + 1 + 1000 * 2),
        ("mutation Q($n: Int!) { cancelFlowRuns(filter: {}, limit: $n) { rejections { reason } } }", 20 + 1 + 1000 * 2),
    ],
)
def test_a_list_costs_its_page_size_times_its_selected_fields(query: str, cost: int) -> None:
    assert cost_of(query) == cost


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ taskRuns(first: 3) { nodes { id } } }", 60 + 1 + 3 * 2),
        ("{ taskRuns { nodes { id } } }", 60 + 1 + 7 * 2),
        ("query Q($first: Int) { taskRuns(first: $first) { nodes { id } } }", 60 + 1 + 7 * 2),
    ],
)
def test_a_page_costs_at_most_the_largest_allowed_page(query: str, cost: int) -> None:
    assert cost_of(query, EngineOptions(RequestLimits(page_size=7))) == cost


WIDE = """query Wide($runs: Int = 2, $tasks: Int) {
  flowRuns(first: $runs) { nodes { taskRuns(first: $tasks) { nodes { id name } } } } }"""


async def test_page_sizes_in_variables_count_towards_the_cost_limit(client: Client) -> None:
    small = await client.http.post("/graphql", json={"query": WIDE, "variables": {"tasks": 1000}})
    large = await client.http.post("/graphql", json={"query": WIDE, "variables": {"runs": 100, "tasks": 1000}})

    assert small.json() == {"data": {"flowRuns": {"nodes": []}}}
    (error,) = large.json()["errors"]
    assert error["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "cost",
        "allowed": 200_000,
        "found": 60 + 1 + 100 * (1 + 60 + 1 + 1000 * 3),
    }


async def test_page_sizes_in_the_document_count_towards_the_cost_limit(client: Client) -> None:
    query = WIDE.replace("$runs)", "500)").replace("$tasks)", "500)").replace("($runs: Int = 2, $tasks: Int)", "")

    result = (await client.http.post("/graphql", json={"query": query})).json()

    assert result["errors"][0]["extensions"]["limit"] == "cost"


async def test_the_cost_of_an_operation_is_returned_on_request(client: Client) -> None:
    body = {"query": "{ taskRuns(first: 7) { nodes { id name } } }", "extensions": {"cost": True}}

    result = (await client.http.post("/graphql", json=body)).json()
    without_cost = (await client.http.post("/graphql", json={**body, "extensions": {}})).json()

    assert result["extensions"] == {"cost": {"found": 82, "allowed": 200_000}}
    assert list(without_cost) == ["data"]


async def test_the_list_documents_may_request_the_largest_page(client: Client) -> None:
    for operation in ("ListTaskRuns", "ListFlowRuns", "ListDeployments"):
        assert (await client.execute(operation, first=1000))["nodes"] == []


async def test_the_limits_are_configurable(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_root_fields=1, max_filter_conditions=1) as server:
        response = await server.client.http.post("/graphql", json={"query": "{ a: __typename b: __typename }"})
        filter = {"name": {"in": ["a"]}, "taskKey": {"in": ["a"]}}

        refused = await server.client.execute_refused("CountTaskRuns", filter=filter)

    (error,) = response.json()["errors"]
    assert error["message"] == (
        "The document has 2 root fields in one operation; the limit is 1. Simplify it or split it into several requests."
    )
    assert error["extensions"] == {"code": "QUERY_TOO_COMPLEX", "limit": "rootFields", "allowed": 1, "found": 2}
    assert (
        refused["message"] == "filter: exceeds the limit of 1 conditions. A list operator such as `in` counts as one."
    )


@pytest.mark.parametrize("side", ["first", "last"])
async def test_a_page_larger_than_the_configured_maximum_is_refused(tmp_path: Path, side: str) -> None:
    message = f"{side}: must be between 0 and 7; got 8."
    async with run_server(tmp_path, max_page_size=7) as server:
        for operation in ("ListTaskRuns", "ListFlowRuns", "ListFlows", "ListDeployments"):
            assert (await server.client.execute(operation, **{side: 7}))["nodes"] == []
            refused = await server.client.execute_refused(operation, **{side: 8})
            assert refused == {"message": message, "code": "BAD_USER_INPUT", "argument": side}


async def test_the_default_page_size_is_capped_at_the_configured_maximum(tmp_path: Path) -> None:
    async with run_server(tmp_path, max_page_size=7) as server:
        await server.client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 8)

        page = await server.client.execute("ListTaskRuns")

    assert (len(page["nodes"]), page["pageInfo"]["hasNextPage"], page["totalCount"]) == (7, True, 8)


@pytest.mark.parametrize("size", [0, 1001])
def test_a_maximum_page_size_outside_the_contract_is_refused_at_startup(size: int) -> None:
    with pytest.raises(ValidationError, match="max_page_size"):
        Settings(max_page_size=size)  # type: ignore[call-arg]


async def test_a_document_limit_applies_over_a_socket_which_stays_open(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": fragment_bomb(64)}})
        error = await socket.receive()
        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"
    assert error["type"] == "error"
    assert error["payload"][0]["extensions"]["limit"] == "fields"


async def test_without_introspection_neither_schema_nor_suggestions_are_returned(tmp_path: Path) -> None:
    body = {"query": "{ taskRuns { nodes { nam } } }"}
    create = document("CreateTaskRun")[0]
    async with run_server(tmp_path, introspection=False) as server:
        http = server.client.http
        introspected = (await http.post("/graphql", json={"query": INTROSPECTION})).json()
        unknown = (await http.post("/graphql", json=body)).json()
        misnamed = (await http.post("/graphql", json={"query": create, "variables": {"input": {"taskKe": "t"}}})).json()
        typename = (await http.post("/graphql", json={"query": "{ __typename }"})).json()

    assert introspected["errors"][0]["message"].startswith("GraphQL introspection has been disabled")
    assert "data" not in introspected
    assert unknown["errors"][0]["message"] == "Cannot query field 'nam' on type 'TaskRun'."
    assert "Did you mean" not in str(misnamed)
    assert typename == {"data": {"__typename": "Query"}}


async def test_with_introspection_names_are_suggested(client: Client) -> None:
    result = (await client.http.post("/graphql", json={"query": "{ taskRuns { nodes { nam } } }"})).json()

    assert result["errors"][0]["message"].startswith("Cannot query field 'nam' on type 'TaskRun'. Did you mean 'name'")
