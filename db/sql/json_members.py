"""Conditions on the members of JSON objects."""

from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.sql.dialects import DialectExpression


def has_members(document: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that the JSON object `document` has all members of another one, the text parameter `parameter`.

    The values of the other object are text, numbers, Boolean values or null. Numbers are compared by value: 1 equals 1.0.
    The condition is null when the document is null.
    """
    return _HasMembers(document, bindparam(parameter, type_=Text(), required=True))


class _HasMembers(DialectExpression):
    """The condition that a JSON object has all members of another one."""


@compiles(_HasMembers, "sqlite")
def _has_members_in_sqlite(element: _HasMembers, compiler: SQLCompiler, **options: Any) -> str:
    document, expected = (compiler.process(each, **options) for each in element.clauses)
    numbers = "('integer', 'real')"
    same_type = f"(own.type = wanted.type OR own.type IN {numbers} AND wanted.type IN {numbers})"
    found = (
        f"SELECT 1 FROM json_each({document}) AS own "  # noqa: S608 - a column and a parameter
        f"WHERE own.key = wanted.key AND {same_type} AND own.atom IS wanted.atom"
    )
    lacking = f"SELECT 1 FROM json_each({expected}) AS wanted WHERE NOT EXISTS ({found})"  # noqa: S608
    return f"(CASE WHEN {document} IS NOT NULL THEN NOT EXISTS ({lacking}) END)"


@compiles(_HasMembers, "postgresql")
def _has_members_in_postgresql(element: _HasMembers, compiler: SQLCompiler, **options: Any) -> str:
    document, expected = (compiler.process(each, **options) for each in element.clauses)
    return f"(CAST({document} AS JSONB) @> CAST(CAST({expected} AS TEXT) AS JSONB))"
