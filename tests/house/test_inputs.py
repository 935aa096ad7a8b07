"""Input objects: the generated builders return the same objects as Strawberry's own conversion."""

from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLInputObjectType
from graphql.utilities import coerce_input_value
from strawberry.types.arguments import convert_argument
from strawberry.types.base import StrawberryObjectDefinition

from schema.root import build_schema

SCHEMA: Any = build_schema()
TYPES = {name: type_ for name, type_ in SCHEMA._schema.type_map.items() if isinstance(type_, GraphQLInputObjectType)}
ID = "01a206b2-304f-7000-b2ee-99ddb7de487a"
STATE = {"type": "SCHEDULED", "data": {"a": [None]}, "details": {"scheduledTime": "2030-01-01T00:00:00Z"}}
TEXT = {"in": ["a", "b"], "notIn": [], "contains": "%", "isNull": False}
VALUES: list[tuple[str, dict[str, Any]]] = [
    ("TaskRunCreateInput", {"taskKey": "t"}),
    (
        "TaskRunCreateInput",
        {
            "taskKey": "t",
            "dynamicKey": None,
            "tags": ["a", "b"],
            "taskInputs": {"x": [{"y": None}]},
            "retryPolicy": {"retries": 3, "retryDelaySeconds": [1, 2.5]},
            "state": STATE,
        },
    ),
    ("TaskRunUpdateInput", {}),
    ("TaskRunUpdateInput", {"name": None}),
    ("TaskRunStateChangeInput", {"taskRunId": ID, "state": STATE}),
    ("TaskRunFilter", {}),
    (
        "TaskRunFilter",
        {
            "and": [{"or": [{"not": {"name": TEXT}}, {}]}],
            "state": {"type": {"in": ["RUNNING", "FAILED"]}},
            "flowRun": {"flow": {"id": {"in": [ID]}}, "deployment": None},
            "startTime": {"after": "2030-01-01T00:00:00+01:00"},
        },
    ),
    ("FlowRunCreateInput", {"flowId": ID, "parameters": {"a": 1}, "retryPolicy": {}}),
]


def convert_with_strawberry(type_: GraphQLInputObjectType, coerced: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for each in TYPES.values():
        monkeypatch.setattr(each.extensions["strawberry-definition"], "from_input", None)
    definition: StrawberryObjectDefinition = type_.extensions["strawberry-definition"]
    return convert_argument(coerced, definition.origin, SCHEMA.schema_converter.scalar_registry, SCHEMA.config)


def test_every_input_type_has_a_generated_builder() -> None:
    assert [name for name, type_ in TYPES.items() if type_.extensions["strawberry-definition"].from_input is None] == []


@pytest.mark.parametrize(("name", "value"), VALUES, ids=str)
def test_a_built_input_equals_the_one_converted_by_strawberry(
    name: str, value: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    coerced: Any = coerce_input_value(value, TYPES[name])

    built = TYPES[name].extensions["strawberry-definition"].from_input(None, coerced, None)

    expected = convert_with_strawberry(TYPES[name], coerced, monkeypatch)
    assert built == expected
    assert repr(built) == repr(expected)


def test_a_built_input_shares_no_list_with_its_source() -> None:
    coerced: Any = coerce_input_value({"taskKey": "t", "tags": ["a"]}, TYPES["TaskRunCreateInput"])

    built = TYPES["TaskRunCreateInput"].extensions["strawberry-definition"].from_input(None, coerced, None)
    built.tags.append("b")

    assert replace(built).tags == ["a", "b"]
    assert coerced["tags"] == ["a"]
