"""Compatibility with the last release: operations that are valid in the released schema stay valid.

`schema/released.graphql` is the released schema. A breaking change needs an entry in ACCEPTED with its reason. `just
release-contract` replaces the released schema by the current one; ACCEPTED is then emptied.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
)

from schema.root import print_schema

RELEASED = Path(__file__).parent.parent.parent / "schema" / "released.graphql"

ACCEPTED: dict[str, str] = {}
"""Accepted breaking changes, as `breaking_changes` describes them, with the reason for each."""

OLD = """
type Query { run(id: ID!, limit: Int! = 5, sort: Sort = NEW): Run, runs(filter: Filter): [Run!]! }
type Run { id: ID!, name: String, tags: [String!]! }
input Filter { name: String, states: [Sort!], limit: Int! = 5 }
enum Sort { NEW OLD }
"""


def breaking_changes(old: GraphQLSchema, new: GraphQLSchema) -> set[str]:
    """Return the descriptions of all breaking changes."""
    found = {change.description for change in find_breaking_changes(old, new)}
    old_inputs, new_inputs = dict(_inputs(old)), dict(_inputs(new))
    for path in old_inputs.keys() & new_inputs.keys():
        # A non-null input with a default is optional. graphql-core does not report the removal of its default.
        if old_inputs[path].default is not None and new_inputs[path].default is None:
            found.add(f"{path} has no default any more.")
    return found


def _inputs(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLArgument | GraphQLInputField]]:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                for argument_name, argument in field.args.items():
                    yield f"{type_.name}.{name}({argument_name})", argument


def test_the_schema_has_only_accepted_breaking_changes() -> None:
    found = breaking_changes(build_schema(RELEASED.read_text("utf-8")), build_schema(print_schema()))

    assert found == set(ACCEPTED)


def test_every_accepted_breaking_change_has_a_reason() -> None:
    assert [change for change, reason in ACCEPTED.items() if not reason.strip()] == []


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("name: String, tags", "tags", "Field Run.name was removed."),
        ("tags: [String!]!", "tags: [String!]", "Field Run.tags changed type from [String!]! to [String!]."),
        ("runs(filter: Filter)", "runs(filter: Filter, tag: ID!)", "A required argument Query.runs(tag:) was added."),
        (
            "filter: Filter)",
            "filter: Filter!)",
            "Argument Query.runs(filter:) has changed type from Filter to Filter!.",
        ),
        ("(filter: Filter)", "", "Argument Query.runs(filter:) was removed."),
        ("limit: Int! = 5, sort", "limit: Int!, sort", "Query.run(limit) has no default any more."),
        ("sort: Sort = NEW", "sort: Sort", "Query.run(sort) has no default any more."),
        ("limit: Int! = 5 }", "limit: Int! }", "Filter.limit has no default any more."),
        (
            "input Filter { name: String",
            "input Filter { name: String!",
            "Field Filter.name changed type from String to String!.",
        ),
        ("input Filter {", "input Filter { tag: ID!,", "A required field Filter.tag was added."),
        ("{ NEW OLD }", "{ NEW }", "Enum value Sort.OLD was removed."),
    ],
)
def test_a_breaking_change_is_detected(before: str, after: str, change: str) -> None:
    assert before in OLD

    assert breaking_changes(build_schema(OLD), build_schema(OLD.replace(before, after))) == {change}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("id: ID!, name", "id: ID!, age: Int, name"),
        ("name: String, tags", "name: String!, tags"),
        ("runs(filter: Filter)", "runs(filter: Filter, first: Int! = 50)"),
        ("id: ID!, limit", "id: ID, limit"),
        ("{ NEW OLD }", "{ NEW OLD MIDDLE }"),
        ("input Filter {", "input Filter { tag: ID,"),
    ],
)
def test_a_compatible_change_is_not_reported(before: str, after: str) -> None:
    assert before in OLD

    assert breaking_changes(build_schema(OLD), build_schema(OLD.replace(before, after))) == set()
