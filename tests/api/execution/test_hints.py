"""Error messages for common mistakes say what was probably meant."""

from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, parse, validate

from schema.hints import CONNECTION_FIELDS, EXAMPLES, FIELDS, OPERATORS, add_hint
from schema.root import build_schema
from tests.client import Client
from tests.serving import SQLITE_ONLY

SCHEMA: Any = build_schema()._schema
COUNT = "query Count($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"


def as_literal(value: Any) -> str:
    """Format a filter as a literal. Upper-case texts become enum values."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_literal, value)) + "]"
    if isinstance(value, int):
        return str(value)
    return value if value.isalpha() and value.isupper() else f'"{value}"'


async def error_message(client: Client, query: str, variables: dict[str, Any] | None = None) -> str:
    response = await client.http.post("/graphql", json={"query": query, "variables": variables})
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    return error["message"]


@SQLITE_ONLY
@pytest.mark.parametrize("as_variable", [False, True], ids=["literal", "variable"])
@pytest.mark.parametrize(
    ("filter", "hint"),
    [
        ({"state": {"type": "FAILED"}}, "For example: `state: {type: {in: [FAILED]}}`."),
        ({"state": {"type": ["FAILED", "CRASHED"]}}, "For example: `state: {type: {in: [FAILED]}}`."),
        ({"state": "FAILED"}, "For example: `state: {type: {in: [FAILED]}}`."),
        ({"state": {"in": ["FAILED"]}}, "Use `type: {in: […]}`."),
        ({"taskKey": "t"}, 'For example: `taskKey: {in: ["send-mail"]}`.'),
        ({"tags": ["t"]}, 'For example: `tags: {any: ["urgent"]}`.'),
        ({"endTime": {"gte": "2030-01-01T00:00:00Z"}}, "The operator is called `after`."),
        ({"runCount": 2}, "For example: `runCount: {atLeast: 2}`."),
        ({"runCount": {"gte": 2}}, "The operator is called `atLeast`."),
        ({"totalRunTimeSeconds": {"max": 2}}, "The operator is called `atMost`."),
        ({"endTime": {"lt": "2030-01-01T00:00:00Z"}}, "The operator is called `before`."),
        ({"taskKey": {"any": ["t"]}}, "The operator is called `in`."),
        ({"taskKey": {"eq": "t"}}, "The operator is called `in`."),
        ({"id": {"notAny": ["t"]}}, "The operator is called `notIn`."),
        ({"not": {"name": {"like": "t"}}}, "The operator is called `contains`."),
        ({"or": [{"name": {"prefix": "t"}}]}, "The operator is called `startsWith`."),
        ({"tags": {"in": ["t"]}}, "The operator is called `any`."),
        ({"flow": {"name": {"in": ["f"]}}}, "Use `flowRun: {flow: {…}}`."),
        ({"flowRun": {"flowName": {"in": ["f"]}}}, "Use `flow: {name: {…}}`."),
    ],
)
async def test_the_error_of_a_mistake_in_a_filter_has_a_hint(
    client: Client, filter: dict[str, Any], hint: str, as_variable: bool
) -> None:
    if as_variable:
        message = await error_message(client, COUNT, {"filter": filter})
    else:
        message = await error_message(client, f"{{ taskRunCount(filter: {as_literal(filter)}) }}")

    assert message.endswith(f". {hint}")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            "taskRuns { id }",
            "Cannot query field 'id' on type 'TaskRunConnection'. Select the fields of an item in `nodes`: `nodes { id }`.",
        ),
        (
            "taskRuns { edges { id } }",
            "Cannot query field 'id' on type 'TaskRunEdge'. Select the fields of an item in `node`: `node { id }`.",
        ),
        (
            "taskRuns { total }",
            "Cannot query field 'total' on type 'TaskRunConnection'. The field is called `totalCount`.",
        ),
    ],
)
async def test_the_error_of_a_field_selected_on_a_page_has_a_hint(client: Client, selection: str, message: str) -> None:
    assert await error_message(client, f"{{ {selection} }}") == message


@pytest.mark.parametrize(
    "message",
    [
        "Cannot query field 'x' on type 'TaskRun'.",
        "Expected value of type 'TextFilter' not to include unknown field 'x', found: { x: 1 }.",
        "Expected value of type 'StateInput' to be an object, found: 1.",
        "Int cannot represent: \"Expected value of type 'StateFilter' to be an object, found: \".",
    ],
)
def test_other_messages_have_no_hint(message: str) -> None:
    assert add_hint(message) == message


@pytest.mark.parametrize("condition", [*EXAMPLES.values(), *FIELDS["TaskRunFilter"].values()])
def test_each_hint_for_task_runs_is_a_valid_filter(condition: str) -> None:
    document = f"{{ taskRunCount(filter: {{{condition.replace('…', '')}}}) }}"

    assert validate(SCHEMA, parse(document)) == []


@pytest.mark.parametrize("condition", FIELDS["FlowRunFilter"].values())
def test_each_hint_for_flow_runs_is_a_valid_filter(condition: str) -> None:
    document = f"{{ flowRuns(filter: {{{condition.replace('…', '')}}}) {{ totalCount }} }}"

    assert validate(SCHEMA, parse(document)) == []


def test_each_hint_replaces_an_unknown_name_by_a_known_one() -> None:
    for type_name, operators in OPERATORS.items():
        type_: GraphQLInputObjectType = SCHEMA.type_map[type_name]
        assert set(operators.values()) <= type_.fields.keys()
        assert not operators.keys() & type_.fields.keys()
    for type_name, places in FIELDS.items():
        type_ = SCHEMA.type_map[type_name]
        assert {place.split(":")[0] for place in places.values()} <= type_.fields.keys()
        assert not places.keys() & type_.fields.keys()
    page: GraphQLObjectType = SCHEMA.type_map["TaskRunConnection"]
    assert set(CONNECTION_FIELDS.values()) <= page.fields.keys()
    assert not CONNECTION_FIELDS.keys() & page.fields.keys()
