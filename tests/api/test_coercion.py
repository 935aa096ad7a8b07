"""Variables become what graphql-core makes of them."""

from random import Random
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    Undefined,
    build_schema,
)
from graphql.utilities.coerce_input_value import coerce_input_value

from schema.coercion import coercer
from schema.root import build_schema as build_our_schema

LEAVES: list[Any] = [
    None, True, 0, -1, 2**31, 1.5, "", "a", "2030-01-01T00:00:00Z", "01a206b2-304f-7000-b2ee-99ddb7de4877", [], {}, {"a": 1},
]  # fmt: skip
TYPES = {
    name: type_
    for name, type_ in build_our_schema()._schema.type_map.items()
    if isinstance(type_, GraphQLInputObjectType)
}


def some_value(type_: Any, chance: Random, depth: int = 0) -> Any:
    """A value of the type, mostly."""
    if isinstance(type_, GraphQLNonNull):
        return some_value(type_.of_type, chance, depth)
    if chance.random() < 0.03:
        return chance.choice(LEAVES)
    if isinstance(type_, GraphQLList):
        items = [some_value(type_.of_type, chance, depth + 1) for _ in range(chance.randrange(3))]
        return items if chance.random() < 0.9 or not items else items[0]
    if isinstance(type_, GraphQLInputObjectType):
        share = 0.7**depth
        given = {
            name: some_value(field.type, chance, depth + 1)
            for name, field in type_.fields.items()
            if chance.random() < share and depth < 6
        }
        return given | ({"nothing": 1} if chance.random() < 0.02 else {})
    if isinstance(type_, GraphQLEnumType):
        return chance.choice(list(type_.values))
    return chance.choice(LEAVES[1:10])


def test_there_are_inputs() -> None:
    assert {"TaskRunFilter", "TaskRunCreateInput"} <= set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_inputs_are_coerced_as_graphql_core_does(name: str) -> None:
    chance, type_, valid = Random(name), TYPES[name], 0  # noqa: S311
    for _ in range(200):
        for wanted in (type_, GraphQLNonNull(type_), GraphQLList(GraphQLNonNull(type_))):
            value = some_value(wanted, chance)
            expected = coerce_input_value(value, wanted)
            assert coercer(wanted)(value) == expected
            valid += expected is not Undefined
    assert 0 < valid < 600


def test_what_no_input_of_ours_has_is_coerced_so_too() -> None:
    type_ = build_schema(
        """
        type Query { a(one: One, several: Several): Int }
        input One @oneOf { a: Int, b: [Int!] }
        input Several { a: Int! = 5, b: Int = 6, c: Int!, d: Several }
        """
    ).type_map
    values = [{}, {"a": 1}, {"a": None}, {"b": [1]}, {"b": [None]}, {"a": 1, "b": [1]}, {"c": 1}, {"c": 1, "b": None}]
    values += [{"c": 1, "d": value} for value in values]

    for name in ("One", "Several"):
        found = [coercer(type_[name])(value) for value in values]
        assert found == [coerce_input_value(value, type_[name]) for value in values]
        assert Undefined in found
        assert any(each is not Undefined for each in found)


def test_a_field_may_have_another_name_for_resolvers() -> None:
    type_ = GraphQLInputObjectType("A", {"aB": GraphQLInputField(GraphQLInt, out_name="a_b")}, out_type=sorted)

    assert coercer(type_)({"aB": 1}) == ["a_b"]
