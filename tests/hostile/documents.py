"""Hypothesis strategies for the documents of `queries/` with unusual variables."""

from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    OperationDefinitionNode,
    OperationType,
    parse,
    type_from_ast,
)
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from queries import document, paths
from schema.root import build_schema

Operation = tuple[str, dict[str, Any] | None]
"""A document and its variables."""

UNKNOWN_IDS = [
    "01a206b2-303f-7000-b0b3-40b8ceb3f489",
    "",
    "0",
    "a",
    "VGFza1J1bjox",
    "0" * 36,
    "\ud7ff" * 40,
    "-" * 2000,
]
TIMESTAMPS = [
    "2026-01-31T09:30:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999999-14:00",
    "2026-02-30T00:00:00Z",
]
TIMESTAMPS += [
    "now",
    "",
    "2026-06-30T23:59:60Z",
    "2026-W01-1T00:00:00Z",
    "+12026-01-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
]
NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**53, 2**63, 2**64 - 1, 10**40, 0.5, -0.0, 1e308, 5e-324, 60.0, 86400]
TEXTS = [
    "",
    "a",
    "a" * 2000,
    "%",
    "\\",
    "'; --",
    "\u0000",
    "\ud7ff",
    "\U0010ffff",
    "é",
    "é",
    "\u202e",
    "true",
    "null",
    "{}",
]
ALPHABET = st.characters(exclude_categories=["Cs"])

MAX_WAIT_SECONDS = 60

texts = st.sampled_from(TEXTS) | st.text(ALPHABET, max_size=20)
numbers = st.sampled_from(NUMBERS) | st.integers(-5, 70) | st.floats(allow_nan=False, allow_infinity=False)
timestamps = st.sampled_from(TIMESTAMPS) | st.datetimes().map(lambda value: value.isoformat() + "Z")
json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
    max_leaves=12,
)


def id_values(known: list[str]) -> SearchStrategy[str]:
    return st.sampled_from(known) | st.sampled_from(known) | st.sampled_from(UNKNOWN_IDS) | st.uuids().map(str)


def queries_and_mutations(known: list[str]) -> SearchStrategy[Operation]:
    """Return the queries and mutations of `queries/`, mostly with variables of the correct types."""
    return _with_variables(_documents(), known)


def subscriptions(known: list[str]) -> SearchStrategy[Operation]:
    """Return the subscriptions of `queries/`, mostly with variables of the correct types."""
    return _with_variables(_documents(subscribing=True), known)


def with_short_wait(operation: Operation) -> Operation:
    """Return the operation with `waitSeconds` divided by 1,000, because a claim may wait for a minute."""
    query, variables = operation
    wait = (variables or {}).get("waitSeconds")
    if isinstance(wait, int | float) and 0 < wait <= MAX_WAIT_SECONDS:
        variables = {**(variables or {}), "waitSeconds": wait / 1000}
    return query, variables


class Values:
    """Strategies for the values of variables, by type."""

    def __init__(self, known: list[str]) -> None:
        self._scalars: dict[str, SearchStrategy[Any]] = {
            "ID": id_values(known),
            "DateTime": timestamps,
            "JSON": json_values,
            "String": texts,
            "Int": numbers,
            "Float": numbers,
            "Boolean": st.booleans(),
        }

    def variables(self, operation: OperationDefinitionNode) -> SearchStrategy[dict[str, Any]]:
        """Return values for the variables of an operation; optional ones may be missing."""
        schema = build_schema()._schema
        types: dict[str, Any] = {
            each.variable.name.value: type_from_ast(schema, each.type) for each in operation.variable_definitions or ()
        }
        return self._object({name: (type_, isinstance(type_, GraphQLNonNull)) for name, type_ in types.items()}, 0)

    def of(self, type_: Any, depth: int) -> SearchStrategy[Any]:
        """Return values of a type and a few of other types."""
        right = self._valid_value(type_, depth)
        # One value in twenty is invalid: an invalid value hides the code behind validation.
        return st.integers(0, 19).flatmap(lambda drawn: right if drawn else json_values)

    def _valid_value(self, type_: Any, depth: int) -> SearchStrategy[Any]:
        if isinstance(type_, GraphQLNonNull):
            return self._valid_value(type_.of_type, depth)
        if isinstance(type_, GraphQLList):
            return st.lists(self.of(type_.of_type, depth + 1), max_size=3 if depth < 4 else 1)
        if isinstance(type_, GraphQLEnumType):
            return st.sampled_from(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            return st.deferred(lambda: self._object_of(type_, depth))
        return self._scalars[type_.name]

    def _object_of(self, type_: GraphQLInputObjectType, depth: int) -> SearchStrategy[dict[str, Any]]:
        fields = {name: (field.type, isinstance(field.type, GraphQLNonNull)) for name, field in type_.fields.items()}
        return self._object(fields, depth + 1)

    def _object(self, fields: dict[str, tuple[Any, bool]], depth: int) -> SearchStrategy[dict[str, Any]]:
        required = [name for name, (_, is_required) in fields.items() if is_required]
        optional = [name for name in fields if name not in required]
        max_size = 4 if depth < 4 else 1
        chosen = st.lists(st.sampled_from(optional), max_size=max_size, unique=True) if optional else st.just([])
        return chosen.flatmap(
            lambda names: st.fixed_dictionaries(
                {name: self.of(fields[name][0], depth) for name in sorted([*required, *names])}
            )
        )


def _with_variables(documents: list[OperationDefinitionNode], known: list[str]) -> SearchStrategy[Operation]:
    values = Values(known)
    drawn = {each.name.value: values.variables(each) for each in documents if each.name is not None}
    return st.sampled_from(list(drawn)).flatmap(lambda name: st.tuples(st.just(document(name)[0]), drawn[name]))


def _documents(*, subscribing: bool = False) -> list[OperationDefinitionNode]:
    found = []
    for name in paths():
        tree = parse(document(name)[0])
        (operation,) = [each for each in tree.definitions if isinstance(each, OperationDefinitionNode)]
        if (operation.operation is OperationType.SUBSCRIPTION) is subscribing:
            found.append(operation)
    return found
