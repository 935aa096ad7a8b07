"""The printed schema: it is up to date, and every name in it has a description."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
    validate_schema,
)

from schema.root import build_schema as build_runyard_schema
from schema.root import print_schema

PRINTED = Path(__file__).parent.parent.parent / "schema" / "schema.graphql"

Described = tuple[str, str | None]
"""The path of a name in the schema, and its description."""


def own_types() -> Iterator[GraphQLNamedType]:
    for type_ in build_runyard_schema()._schema.type_map.values():
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_):
            yield type_


def types() -> Iterator[Described]:
    for type_ in own_types():
        yield type_.name, type_.description


def fields() -> Iterator[Described]:
    for type_ in own_types():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field.description


def arguments() -> Iterator[Described]:
    for type_ in own_types():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                for argument_name, argument in field.args.items():
                    yield f"{type_.name}.{name}({argument_name})", argument.description


def enum_values() -> Iterator[Described]:
    for type_ in own_types():
        if isinstance(type_, GraphQLEnumType):
            for name, value in type_.values.items():
                yield f"{type_.name}.{name}", value.description


def test_the_printed_schema_is_up_to_date() -> None:
    """Run `just sdl` to print it again."""
    assert PRINTED.read_text("utf-8") == print_schema()


def test_the_printed_schema_is_valid() -> None:
    assert validate_schema(build_schema(PRINTED.read_text("utf-8"))) == []


@pytest.mark.parametrize("name", ["TaskRun", "FlowRun", "TaskRunOrchestrationResult", "FlowRunOrchestrationResult"])
def test_the_state_of_a_run_is_never_null(name: str) -> None:
    """A run is inserted together with its first state, and its states are deleted only with it."""
    type_ = build_runyard_schema()._schema.type_map[name]
    assert isinstance(type_, GraphQLObjectType)

    names = {"state", "stateId", "stateType", "stateName"} & type_.fields.keys()

    assert "state" in names
    assert all(isinstance(type_.fields[each].type, GraphQLNonNull) for each in names)


@pytest.mark.parametrize("name", ["State", "TaskQueue"])
def test_an_object_with_an_id_is_a_node(name: str) -> None:
    type_ = build_runyard_schema()._schema.type_map[name]
    assert isinstance(type_, GraphQLObjectType)

    assert [interface.name for interface in type_.interfaces] == ["Node"]


@pytest.mark.parametrize(
    ("described", "known"),
    [
        pytest.param(list(types()), "TaskRun", id="type"),
        pytest.param(list(fields()), "TaskRun.stateType", id="field"),
        pytest.param(list(fields()), "TaskRunCreateInput.taskKey", id="input field"),
        pytest.param(list(arguments()), "Query.taskRun(id)", id="argument"),
        pytest.param(list(enum_values()), "StateType.RUNNING", id="enum value"),
    ],
)
def test_every_name_has_a_description(described: list[Described], known: str) -> None:
    assert known in dict(described)
    assert [path for path, description in described if not (description or "").strip()] == []


def test_a_description_starts_with_a_capital_and_ends_with_a_period() -> None:
    described = [*types(), *fields(), *arguments(), *enum_values()]

    assert [path for path, text in described if text and (text[0].islower() or text[-1] not in ".<")] == []


def root_fields(root: str) -> dict[str, GraphQLField]:
    type_ = build_runyard_schema()._schema.type_map[root]
    assert isinstance(type_, GraphQLObjectType)
    return type_.fields


@pytest.mark.parametrize("root", ["Query", "Mutation"])
def test_a_root_field_that_fails_does_not_take_the_others_with_it(root: str) -> None:
    non_null = [name for name, field in root_fields(root).items() if isinstance(field.type, GraphQLNonNull)]

    assert non_null == []


def test_an_event_of_a_subscription_is_never_null() -> None:
    assert {type(field.type) for field in root_fields("Subscription").values()} == {GraphQLNonNull}


def test_every_mutation_returns_a_payload_that_can_grow() -> None:
    types = {name: field.type for name, field in root_fields("Mutation").items()}

    assert [name for name, type_ in types.items() if not isinstance(type_, GraphQLObjectType)] == []
    assert {str(type_) for type_ in types.values() if not str(type_).endswith("Payload")} == {
        "TaskRunOrchestrationResult",
        "FlowRunOrchestrationResult",
    }


def test_an_input_with_a_default_is_not_null() -> None:
    assert re.findall(r"\w+: \[?\w+\]? = \w+", print_schema()) == []
