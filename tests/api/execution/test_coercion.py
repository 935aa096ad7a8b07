"""Variables and arguments are coerced exactly as by graphql-core."""

import json
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    OperationDefinitionNode,
    Undefined,
    build_schema,
    get_argument_values,
    get_named_type,
    get_variable_values,
    is_leaf_type,
    parse,
    validate,
)
from graphql.utilities.coerce_input_value import coerce_input_value

from schema.execution.coercion import ArgumentCoercer, CoercionFailed, VariableCoercer, build_coercer
from schema.root import build_schema as build_our_schema

LEAVES: list[Any] = [
    None, True, 0, -1, 2**31, 1.5, "", "a", "2030-01-01T00:00:00Z", "01a206b2-304f-7000-b2ee-99ddb7de4877", [], {}, {"a": 1},
]  # fmt: skip
VALID_LEAVES: dict[str, list[Any]] = {
    "Boolean": [True, False],
    "DateTime": ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00.5+01:00"],
    "Float": [0, 0.5, -1e300],
    "ID": ["01a206b2-304f-7000-b2ee-99ddb7de4877", "", 5],
    "Int": [0, -1, 2**31 - 1],
    "JSON": LEAVES,
    "String": ["", "a"],
}
SCHEMA = build_our_schema()._schema
TYPES = {name: type_ for name, type_ in SCHEMA.type_map.items() if isinstance(type_, GraphQLInputObjectType)}


def generate_value(type_: Any, chance: Random, depth: int = 0) -> Any:
    """Generate a value of the type, or sometimes an invalid one."""
    if isinstance(type_, GraphQLNonNull):
        return generate_value(type_.of_type, chance, depth)
    if chance.random() < 0.03:
        return chance.choice(LEAVES)
    if isinstance(type_, GraphQLList):
        items = [generate_value(type_.of_type, chance, depth + 1) for _ in range(chance.randrange(3))]
        return items if chance.random() < 0.9 or not items else items[0]
    if isinstance(type_, GraphQLInputObjectType):
        probability = 0.7**depth
        given = {
            name: generate_value(field.type, chance, depth + 1)
            for name, field in type_.fields.items()
            if chance.random() < probability and depth < 6
        }
        return given | ({"nothing": 1} if chance.random() < 0.02 else {})
    if isinstance(type_, GraphQLEnumType):
        return chance.choice(list(type_.values))
    return chance.choice(VALID_LEAVES[type_.name] if chance.random() < 0.9 else LEAVES[1:10])


def to_literal(value: Any, type_: Any) -> str:
    """Format the value as a GraphQL literal."""
    while isinstance(type_, GraphQLNonNull):
        type_ = type_.of_type
    if isinstance(value, list):
        item = type_.of_type if isinstance(type_, GraphQLList) else None
        return "[" + ", ".join(to_literal(each, item) for each in value) + "]"
    while isinstance(type_, GraphQLList | GraphQLNonNull):
        type_ = type_.of_type
    if isinstance(value, dict):
        fields = type_.fields if isinstance(type_, GraphQLInputObjectType) else {}
        items = (
            f"{name}: {to_literal(each, fields[name].type if name in fields else None)}" for name, each in value.items()
        )
        return "{" + ", ".join(items) + "}"
    is_name = isinstance(type_, GraphQLEnumType) and isinstance(value, str) and value.isidentifier()
    return value if is_name else json.dumps(value)


def in_parentheses(items: list[str]) -> str:
    return f"({', '.join(items)})" if items else ""


class OperationGenerator:
    """Generates operations with one field, whose arguments are variables, literals, both, or omitted."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.declared: list[str] = []
        self.variables: dict[str, Any] = {}

    def operation(self, kind: str, name: str, field: Any) -> str:
        given = {argument: self.value(each.type) for argument, each in field.args.items() if self.chance.random() < 0.7}
        arguments = in_parentheses([f"{argument}: {value}" for argument, value in given.items()])
        selection = "" if is_leaf_type(get_named_type(field.type)) else "{ __typename }"
        return f"{kind} {in_parentheses(self.declared)} {{ {name}{arguments} {selection} }}"

    def value(self, type_: Any, depth: int = 0) -> str:
        if self.chance.random() < 0.5 / (depth + 1):
            return self.variable(type_)
        nullable = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if isinstance(nullable, GraphQLInputObjectType) and self.chance.random() < 0.5 and depth < 3:
            names = self.chance.sample(list(nullable.fields), min(len(nullable.fields), self.chance.randrange(3)))
            return (
                "{" + ", ".join(f"{name}: {self.value(nullable.fields[name].type, depth + 1)}" for name in names) + "}"
            )
        return to_literal(generate_value(type_, self.chance), type_)

    def variable(self, type_: Any) -> str:
        name = f"v{len(self.declared)}"
        default = ""
        if self.chance.random() < 0.3:
            type_ = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
            default = f" = {to_literal(generate_value(type_, self.chance), type_)}"
        self.declared.append(f"${name}: {type_}{default}")
        if self.chance.random() < 0.7:
            self.variables[name] = None if self.chance.random() < 0.1 else generate_value(type_, self.chance)
        return f"${name}"


ROOT_FIELDS = [
    (kind, name)
    for kind, root in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type))
    if root
    for name, field in root.fields.items()
    if field.args
]


@pytest.mark.parametrize(("kind", "name"), ROOT_FIELDS, ids=[name for _, name in ROOT_FIELDS])
def test_arguments_are_coerced_as_by_graphql_core(kind: str, name: str) -> None:
    root = SCHEMA.query_type if kind == "query" else SCHEMA.mutation_type
    assert isinstance(root, GraphQLObjectType)
    chance, field, found = Random(name), root.fields[name], Counter[str]()  # noqa: S311
    for _ in range(150):
        generator = OperationGenerator(chance)
        document = parse(generator.operation(kind, name, field))
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        if validate(SCHEMA, document):
            found["invalid"] += 1
            continue
        (node,) = operation.selection_set.selections
        assert isinstance(node, FieldNode)

        expected: Any = CoercionFailed
        values = get_variable_values(SCHEMA, operation.variable_definitions or (), generator.variables)
        if not isinstance(values, list):
            with suppress(GraphQLError):
                expected = values.coerced, get_argument_values(field, node, values)

        try:
            variables = VariableCoercer(SCHEMA, operation).coerce(generator.variables)
            read: Any = variables.coerced, ArgumentCoercer(field, node).coerce(variables)
        except CoercionFailed:
            read = CoercionFailed
        assert read == expected
        found["unreadable" if read is CoercionFailed else "read"] += 1
    assert min(found["read"], found["unreadable"]) > 2


def test_the_schema_has_input_types() -> None:
    assert {"TaskRunFilter", "TaskRunCreateInput"} <= set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_input_objects_are_coerced_as_by_graphql_core(name: str) -> None:
    chance, type_, valid = Random(name), TYPES[name], 0  # noqa: S311
    for _ in range(200):
        for target in (type_, GraphQLNonNull(type_), GraphQLList(GraphQLNonNull(type_))):
            value = generate_value(target, chance)
            expected = coerce_input_value(value, target)
            assert build_coercer(target)(value) == expected
            valid += expected is not Undefined
    assert 0 < valid < 600


def test_one_of_inputs_and_defaults_are_coerced_as_by_graphql_core() -> None:
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
        found = [build_coercer(type_[name])(value) for value in values]
        assert found == [coerce_input_value(value, type_[name]) for value in values]
        assert Undefined in found
        assert any(each is not Undefined for each in found)


def test_out_name_and_out_type_of_an_input_are_applied() -> None:
    type_ = GraphQLInputObjectType("A", {"aB": GraphQLInputField(GraphQLInt, out_name="a_b")}, out_type=sorted)

    assert build_coercer(type_)({"aB": 1}) == ["a_b"]
