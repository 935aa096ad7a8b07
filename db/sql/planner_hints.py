"""Expressions that steer the query planner and do not change the result."""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Join, SelectBase, literal_column, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.sql.dialects import DialectExpression


def with_selectivity(selectivity: float, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Add to the condition an estimate of the share of rows that meet it, from 0 to 1.

    Without statistics, SQLite assumes that an equality matches few rows. The condition can still use an index.
    PostgreSQL has statistics and ignores the estimate.
    """
    return _WithSelectivity(condition, literal_column(str(selectivity)))


def nested_loop_join(rows: FromClause, looked_up: FromClause) -> Join:
    """Join each row of `rows` with the rows of `looked_up` that meet the statement's conditions, in this order.

    SQLite would otherwise choose the join order by its statistics. They exist only after an ANALYZE, do not include the
    contents of a list, and do not reflect how a queue has grown since.
    """
    return _NestedLoopJoin(rows, looked_up, true())


def is_in_subquery(column: ColumnElement[Any], selected: SelectBase) -> ColumnElement[bool]:
    """Build the condition that `column` is among the few values of `selected`, which may be limited and correlated."""
    return _IsInSubquery(column, selected.scalar_subquery())


class _WithSelectivity(DialectExpression):
    """A condition with the share of rows that meet it."""


@compiles(_WithSelectivity, "sqlite")
def _with_selectivity_in_sqlite(element: _WithSelectivity, compiler: SQLCompiler, **options: Any) -> str:
    condition, selectivity = (compiler.process(each, **options) for each in element.clauses)
    return f"likelihood({condition}, {selectivity})"


@compiles(_WithSelectivity, "postgresql")
def _with_selectivity_in_postgresql(element: _WithSelectivity, compiler: SQLCompiler, **options: Any) -> str:
    condition, _ = element.clauses
    return compiler.process(condition, **options)


class _NestedLoopJoin(Join):
    """A join that looks up the rows of the right side for each row of the left side."""

    inherit_cache = False


@compiles(_NestedLoopJoin, "sqlite")
def _nested_loop_join_in_sqlite(element: _NestedLoopJoin, compiler: SQLCompiler, **options: Any) -> str:
    left, right = (compiler.process(each, **{**options, "asfrom": True}) for each in (element.left, element.right))
    return f"{left} CROSS JOIN {right}"


class _IsInSubquery(DialectExpression):
    """The condition that a value is among those that a subquery selects."""


@compiles(_IsInSubquery, "sqlite")
def _is_in_subquery_in_sqlite(element: _IsInSubquery, compiler: SQLCompiler, **options: Any) -> str:
    column, selected = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN {selected})"


@compiles(_IsInSubquery, "postgresql")
def _is_in_subquery_in_postgresql(element: _IsInSubquery, compiler: SQLCompiler, **options: Any) -> str:
    column, selected = (compiler.process(each, **options) for each in element.clauses)
    # PostgreSQL looks up an array in an index, once for each outer row of a correlated subquery.
    return f"({column} = ANY (ARRAY {selected}))"
