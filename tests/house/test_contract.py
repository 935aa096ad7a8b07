"""The printed schema: it is up to date, and every name in it has a description."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
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
