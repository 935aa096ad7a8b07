"""The contract of the last release holds: what clients may send and ask for today, they may tomorrow.

`schema/released.graphql` is that contract. A change that breaks clients needs a row in ACCEPTED, with the reason; `just
release-contract` makes today's contract the released one, and then the table is empty again.
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
"""Changes that break clients, as the test words them, and why they are made even so."""

OLD = """
type Query { run(id: ID!, limit: Int! = 5, sort: Sort = NEW): Run, runs(filter: Filter): [Run!]! }
type Run { id: ID!, name: String, tags: [String!]! }
input Filter { name: String, states: [Sort!], limit: Int! = 5 }
enum Sort { NEW OLD }
"""


def breaking_changes(old: GraphQLSchema, new: GraphQLSchema) -> set[str]:
    """What a client may have relied on that is no longer so."""
    found = {change.description for change in find_breaking_changes(old, new)}
    given, now_given = dict(_inputs(old)), dict(_inputs(new))
    for path in given.keys() & now_given.keys():
        # A non-null one with a default may be left out; graphql-core does not see the default go.
        if given[path].default is not None and now_given[path].default is None:
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


def test_what_was_released_still_holds() -> None:
    found = breaking_changes(build_schema(RELEASED.read_text("utf-8")), build_schema(print_schema()))

    assert found == set(ACCEPTED)


def test_a_change_that_breaks_clients_has_a_reason() -> None:
    assert [change for change, reason in ACCEPTED.items() if not reason.strip()] == []


@pytest.mark.parametrize(
    ("was", "becomes", "change"),
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
def test_a_change_that_breaks_clients_is_found(was: str, becomes: str, change: str) -> None:
    assert was in OLD

    assert breaking_changes(build_schema(OLD), build_schema(OLD.replace(was, becomes))) == {change}


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("id: ID!, name", "id: ID!, age: Int, name"),
        ("name: String, tags", "name: String!, tags"),
        ("runs(filter: Filter)", "runs(filter: Filter, first: Int! = 50)"),
        ("id: ID!, limit", "id: ID, limit"),
        ("{ NEW OLD }", "{ NEW OLD MIDDLE }"),
        ("input Filter {", "input Filter { tag: ID,"),
    ],
)
def test_a_contract_may_grow(was: str, becomes: str) -> None:
    assert was in OLD

    assert breaking_changes(build_schema(OLD), build_schema(OLD.replace(was, becomes))) == set()
