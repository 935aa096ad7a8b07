"""Conditions on tags: lists of strings that are stored as JSON."""

from typing import Any

from sqlalchemy import ColumnElement, TableValuedAlias, Text, bindparam, column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from db.sql.dialects import DialectExpression
from db.sql.lists import ListCondition


def has_tag(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that `tags` contains the text parameter `parameter`. Cheaper than a list with one tag."""
    return _HasTag(tags, bindparam(parameter, required=True))


def has_all_tags(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that `tags` contains every value of the list parameter `parameter`."""
    return _HasAllTags(tags, bindparam(parameter, type_=ARRAY(Text), required=True))


def has_tag_among(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that `tags` contains at least one value of the list parameter `parameter`."""
    return _HasTagAmong(tags, parameter)


def unnest_tags(tags: ColumnElement[Any]) -> TableValuedAlias:
    """Build rows to join with: one row for each of the `tags` of a run, in the column `value`."""
    return _EachTag(tags).table_valued(column("value", Text()), name="each_tag", joins_implicitly=True)


class _HasTag(DialectExpression):
    """The condition that a JSON list contains a text."""


@compiles(_HasTag, "sqlite")
def _has_tag_in_sqlite(element: _HasTag, compiler: SQLCompiler, **options: Any) -> str:
    tags, expected = (compiler.process(each, **options) for each in element.clauses)
    return f"(EXISTS (SELECT 1 FROM json_each({tags}) WHERE value = {expected}))"  # noqa: S608 - a column, a parameter


@compiles(_HasTag, "postgresql")
def _has_tag_in_postgresql(element: _HasTag, compiler: SQLCompiler, **options: Any) -> str:
    tags, expected = (compiler.process(each, **options) for each in element.clauses)
    return f"({tags} ? CAST({expected} AS TEXT))"


class _HasAllTags(DialectExpression):
    """The condition that a JSON list contains all texts of another list."""


@compiles(_HasAllTags, "sqlite")
def _has_all_tags_in_sqlite(element: _HasAllTags, compiler: SQLCompiler, **options: Any) -> str:
    tags, expected = (compiler.process(each, **options) for each in element.clauses)
    has = f"SELECT value FROM json_each({tags})"  # noqa: S608 - a column and a parameter
    lacking = f"SELECT 1 FROM json_each({expected}) AS wanted WHERE wanted.value NOT IN ({has})"  # noqa: S608
    return f"(NOT EXISTS ({lacking}))"


@compiles(_HasAllTags, "postgresql")
def _has_all_tags_in_postgresql(element: _HasAllTags, compiler: SQLCompiler, **options: Any) -> str:
    tags, expected = (compiler.process(each, **options) for each in element.clauses)
    return f"({tags} ?& CAST({expected} AS TEXT[]))"


class _HasTagAmong(ListCondition):
    name = "has_tag_among"
    inherit_cache = False


@compiles(_HasTagAmong, "sqlite")
def _has_tag_among_in_sqlite(element: _HasTagAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.sqlite_operands(compiler, options)
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN (SELECT value FROM json_each({values})))"  # noqa: S608


@compiles(_HasTagAmong, "postgresql")
def _has_tag_among_in_postgresql(element: _HasTagAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.postgresql_operands(compiler, options)
    return f"{column} ?| {values}"


class _EachTag(FunctionElement[Any]):
    """The texts of a JSON list as rows."""

    name = "each_tag"
    inherit_cache = False


@compiles(_EachTag, "sqlite")
def _each_tag_in_sqlite(element: _EachTag, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_EachTag, "postgresql")
def _each_tag_in_postgresql(element: _EachTag, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements_text({compiler.process(element.clauses, **options)})"
