"""Arithmetic on stored timestamps."""

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.sql.dialects import DialectExpression


def add_seconds(start: ColumnElement[Any], seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    """Add `seconds` to the timestamp `start`. SQLite rounds the result to milliseconds."""
    return _AddSeconds(start, seconds)


def earlier_of(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the earlier of two timestamps."""
    return _EarlierOf(one, other)


class _AddSeconds(DialectExpression):
    """The timestamp a number of seconds after another."""


@compiles(_AddSeconds, "sqlite")
def _add_seconds_in_sqlite(element: _AddSeconds, compiler: SQLCompiler, **options: Any) -> str:
    start, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"(strftime('%Y-%m-%dT%H:%M:%f', {start}, {seconds} || ' seconds') || '000Z')"


@compiles(_AddSeconds, "postgresql")
def _add_seconds_in_postgresql(element: _AddSeconds, compiler: SQLCompiler, **options: Any) -> str:
    start, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"({start} + {seconds} * INTERVAL '1 second')"


class _EarlierOf(DialectExpression):
    """The earlier of two timestamps."""


@compiles(_EarlierOf, "sqlite")
def _earlier_of_in_sqlite(element: _EarlierOf, compiler: SQLCompiler, **options: Any) -> str:
    return f"min({compiler.process(element.clauses, **options)})"


@compiles(_EarlierOf, "postgresql")
def _earlier_of_in_postgresql(element: _EarlierOf, compiler: SQLCompiler, **options: Any) -> str:
    return f"least({compiler.process(element.clauses, **options)})"
