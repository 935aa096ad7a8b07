"""What one document may ask for: refused before it is run, quickly, and with the limit's name and value."""

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
from schema.execution.operation import MOST_VARIANTS
from schema.limits.options import DEFAULT, Limits, Rules
from schema.mutation import Mutation
from schema.query import Query
from schema.root import build_schema
from schema.scalars import SCALARS
from schema.subscription import Subscription
from tests.client import Client
from tests.hostile.heavy_documents import HEAVY
from tests.serving import serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


MOST_SECONDS = 0.25
"""CPU that looking at a document may take: for so long nobody else is served. On a quiet machine it is less than 0.1."""

INTROSPECTION = get_introspection_query(descriptions=True, input_value_deprecation=True)


def fault_of(query: str, **limits: int) -> dict[str, Any] | None:
    """What the one error says of the limit; None where the document is valid."""
    errors = build_schema(Rules(Limits(**limits))).documents.of(query).errors
    if not errors:
        return None
    (error,) = errors
    extensions = dict(error.extensions or {})
    assert extensions.pop("code") == "QUERY_TOO_COMPLEX"
    return extensions


def bomb(levels: int) -> str:
    """Each fragment spreads the next one twice."""
    fragments = [f"fragment F{n} on TaskRun {{ id ...F{n + 1} ...F{n + 1} }}" for n in range(levels)]
    return f"{{ taskRuns {{ nodes {{ ...F0 }} }} }} {' '.join(fragments)} fragment F{levels} on TaskRun {{ id }}"


LIMITED: dict[str, tuple[str, Callable[[int], str]]] = {
    "characters": ("characters", "{a}".ljust),
    "depth": ("depth", lambda count: "{ " + "a { " * (count - 1) + "b" + " }" * (count - 1) + " }"),
    "aliases": ("aliases", lambda count: "{ " + " ".join(f"a{n}: __typename" for n in range(count)) + " }"),
    "directives": ("directives", lambda count: "{ __typename " + "@skip(if: false) " * count + "}"),
    "fields": ("fields", lambda count: "{ server { " + " ".join("version" for _ in range(count - 1)) + " } }"),
    "root_fields": ("rootFields", lambda count: "{ " + " ".join(f"a{n}: __typename" for n in range(count)) + " }"),
    "repeats": ("repeats", lambda count: "{ server { " + "version " * count + "} }"),
}
"""For each limit what an error calls it, and a document that has exactly so many."""


@pytest.mark.parametrize("limit", LIMITED)
def test_a_document_over_a_limit_is_told_which_and_how_many_it_has(limit: str) -> None:
    name, write = LIMITED[limit]
    wide = dict.fromkeys(["characters", "depth", "aliases", "directives", "fields", "root_fields", "repeats"], 500)

    assert fault_of(write(8), **wide | {limit: 7}) == {"limit": name, "allowed": 7, "found": 8}


@pytest.mark.parametrize("limit", ["aliases", "fields", "root_fields", "repeats"])
def test_a_document_at_a_limit_is_run(limit: str) -> None:
    _, write = LIMITED[limit]

    assert fault_of(write(8), **{limit: 8}) is None


def test_fields_may_be_fifteen_deep() -> None:
    deepest = "{ flowRuns(first: 1) { nodes { " + "parentTaskRun { flowRun { " * 6 + "id" + " } }" * 6 + " } } }"
    deeper = deepest.replace("id", "flow { id }")

    assert fault_of(deepest) is None
    assert fault_of(deeper) == {"limit": "depth", "allowed": 15, "found": 16}


def test_tokens_are_counted_while_they_are_read() -> None:
    assert fault_of("{ server { version version } }", tokens=5) == {"limit": "tokens", "allowed": 5}
    assert fault_of("{ server { version version } }", tokens=9) is None


def test_an_alias_may_have_a_hundred_characters() -> None:
    document = "fragment F on TaskRun { %s: id } { taskRuns { nodes { ...F } } }"

    assert fault_of(document % ("a" * 100)) is None
    assert fault_of(document % ("a" * 101)) == {"limit": "aliasCharacters", "allowed": 100, "found": 101}


def test_a_document_may_have_ten_thousand_lines() -> None:
    assert fault_of("\n" * 9999 + "{ __typename }") is None
    assert fault_of("\r\n" * 9999 + "{ __typename }") is None
    for end in ("\n", "\r\n", "\r"):
        fault = fault_of(end * 10_000 + "{ __typename }")
        assert fault == {"limit": "lines", "allowed": 10_000, "found": 10_001}


def test_what_fragments_bring_counts_wherever_they_are_spread() -> None:
    query = "{ one: server { ...F } two: server { ...F } } fragment F on ServerInfo { a: version b: version }"

    assert fault_of(query, aliases=5) == {"limit": "aliases", "allowed": 5, "found": 6}
    assert fault_of(query, fields=7) == {"limit": "fields", "allowed": 7, "found": 8}


def test_the_introspection_that_tools_send_passes_under_the_defaults() -> None:
    assert fault_of(INTROSPECTION) is None


@pytest.fixture
def without_collector() -> Iterator[None]:
    """The garbage collector looks through all that the tests have made; a server has put that aside when it starts."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    "query",
    [
        *HEAVY.values(),
        bomb(64),
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
        *HEAVY,
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
def test_no_document_keeps_others_waiting_while_it_is_looked_at(query: str) -> None:
    schema = build_schema()
    begun = time.thread_time()

    asked = schema.documents.operation(schema.documents._look_at(query), None)
    if isinstance(asked, PreExecutionError):
        assert [error.formatted for error in asked.errors or ()]

    took = time.thread_time() - begun
    print(f"looked at in {took * 1000:.0f} ms")
    assert took < MOST_SECONDS


def test_a_client_is_told_of_the_first_faults_with_what_may_have_been_meant() -> None:
    errors = (
        build_schema()
        .documents.of("{ server { " + " ".join(f"versio{number}" for number in range(900)) + " } }")
        .errors
    )

    first, *_, last = errors
    assert first.message == "Cannot query field 'versio0' on type 'ServerInfo'. Did you mean 'version'?"
    assert last.message == "Too many validation errors, error limit reached. Validation aborted."
    assert len(errors) == 6


def test_documents_are_kept_until_they_are_many_or_large_together() -> None:
    schema = RunyardSchema(Query, Mutation, Subscription, SCALARS)
    large = [f"{{ __typename }}{number:>32000}" for number in range(10)]

    for query in large:
        schema.documents.of(query)

    assert 160_000 < sum(map(len, schema.documents._documents)) <= 200_000
    assert list(schema.documents._documents) == large[-len(schema.documents._documents) :]


def test_what_is_kept_of_a_documents_operations_is_limited_for_all_of_them_together() -> None:
    schema, switches = build_schema(), [(a, b) for a in (True, False) for b in (True, False)]
    names = ["A", "B", "C"]
    query = " ".join(
        f"query {name}($a: Boolean!, $b: Boolean!) {{ __typename @skip(if: $a) @include(if: $b) }}" for name in names
    )

    for name in names:
        for a, b in switches:
            result = asyncio.run(schema.execute(query, {"a": a, "b": b}, operation_name=name))
            assert result.data == ({"__typename": "Query"} if b and not a else {})

    (kept,) = {id(each._kept): each._kept for each in schema.documents.of(query).operations.values()}.values()
    assert len(kept) == MOST_VARIANTS == 8


# --- cost ---


def cost_of(query: str, rules: Rules = DEFAULT) -> int:
    document = build_schema(rules).documents.of(query)
    assert document.asking is not None
    ((asked),) = document.asking.operations.values()
    return asked.most


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
    ],
)
def test_a_list_costs_its_page_size_times_what_is_asked_of_each(query: str, cost: int) -> None:
    assert cost_of(query) == cost


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ taskRuns(first: 3) { nodes { id } } }", 60 + 1 + 3 * 2),
        ("{ taskRuns { nodes { id } } }", 60 + 1 + 7 * 2),
        ("query Q($first: Int) { taskRuns(first: $first) { nodes { id } } }", 60 + 1 + 7 * 2),
    ],
)
def test_a_page_costs_no_more_than_the_largest_that_is_allowed(query: str, cost: int) -> None:
    assert cost_of(query, Rules(Limits(page_size=7))) == cost


WIDE = """query Wide($runs: Int = 2, $tasks: Int) {
  flowRuns(first: $runs) { nodes { taskRuns(first: $tasks) { nodes { id name } } } } }"""


async def test_an_operation_that_costs_too_much_is_refused_by_the_pages_its_variables_name(client: Client) -> None:
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


async def test_a_pages_size_in_the_document_is_judged_with_it(client: Client) -> None:
    query = WIDE.replace("$runs)", "500)").replace("$tasks)", "500)").replace("($runs: Int = 2, $tasks: Int)", "")

    answer = (await client.http.post("/graphql", json={"query": query})).json()

    assert answer["errors"][0]["extensions"]["limit"] == "cost"


async def test_what_an_operation_costs_is_told_to_who_asks(client: Client) -> None:
    body = {"query": "{ taskRuns(first: 7) { nodes { id name } } }", "extensions": {"cost": True}}

    answer = (await client.http.post("/graphql", json=body)).json()
    unasked = (await client.http.post("/graphql", json={**body, "extensions": {}})).json()

    assert answer["extensions"] == {"cost": {"found": 82, "allowed": 200_000}}
    assert list(unasked) == ["data"]


async def test_every_list_of_the_main_documents_may_have_its_largest_page(client: Client) -> None:
    for operation in ("ListTaskRuns", "ListFlowRuns", "ListDeployments"):
        assert (await client.ask(operation, first=1000))["nodes"] == []


# --- settings ---


async def test_an_operator_decides_the_limits(tmp_path: Path) -> None:
    async with serving(tmp_path, max_root_fields=1, max_filter_conditions=1) as served:
        response = await served.client.http.post("/graphql", json={"query": "{ a: __typename b: __typename }"})
        filter = {"name": {"any": ["a"]}, "taskKey": {"any": ["a"]}}

        refused = await served.client.refused("CountTaskRuns", filter=filter)

    (error,) = response.json()["errors"]
    assert error["message"] == "The document has 2 fields at the top of an operation; 1 are allowed."
    assert error["extensions"] == {"code": "QUERY_TOO_COMPLEX", "limit": "rootFields", "allowed": 1, "found": 2}
    assert refused["message"] == "filter: has more than 1 conditions."


@pytest.mark.parametrize("side", ["first", "last"])
async def test_a_page_has_no_more_items_than_the_operator_allows(tmp_path: Path, side: str) -> None:
    message = f"{side}: has to be from 0 to 7, not 8."
    async with serving(tmp_path, max_page_size=7) as served:
        for operation in ("ListTaskRuns", "ListFlowRuns", "ListFlows", "ListDeployments"):
            assert (await served.client.ask(operation, **{side: 7}))["nodes"] == []
            refused = await served.client.refused(operation, **{side: 8})
            assert refused == {"message": message, "code": "BAD_USER_INPUT", "argument": side}


async def test_a_page_of_no_said_size_has_as_many_as_are_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path, max_page_size=7) as served:
        await served.client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 8)

        page = await served.client.ask("ListTaskRuns")

    assert (len(page["nodes"]), page["pageInfo"]["hasNextPage"], page["totalCount"]) == (7, True, 8)


@pytest.mark.parametrize("most", [0, 1001])
def test_pages_that_the_contract_does_not_know_are_refused_at_the_start(most: int) -> None:
    with pytest.raises(ValidationError, match="max_page_size"):
        Settings(max_page_size=most)  # type: ignore[call-arg]


async def test_a_limit_holds_over_a_socket_and_the_socket_lives_on(client: Client) -> None:
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": bomb(64)}})
        error = await socket.receive()
        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"
    assert error["type"] == "error"
    assert error["payload"][0]["extensions"]["limit"] == "fields"


async def test_without_introspection_neither_schema_nor_names_are_told(tmp_path: Path) -> None:
    body = {"query": "{ taskRuns { nodes { nam } } }"}
    create = document("CreateTaskRun")[0]
    async with serving(tmp_path, introspection=False) as served:
        http = served.client.http
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
    answer = (await client.http.post("/graphql", json={"query": "{ taskRuns { nodes { nam } } }"})).json()

    assert answer["errors"][0]["message"].startswith("Cannot query field 'nam' on type 'TaskRun'. Did you mean 'name'")
