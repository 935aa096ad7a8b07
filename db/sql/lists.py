"""Conditions on lists, and rows from lists. Each list is passed as one parameter."""

from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.types import TypeEngine

from db.sql.dialects import DialectExpression


def is_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that `column` equals one of the values of the list parameter `parameter`, of any length."""
    return _IsAmong(column, parameter)


def is_key_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the same condition as `is_among`, for a column that is always looked up by its index.

    PostgreSQL then keeps one plan for the statement. If it can see the values, it plans every execution again, because a
    plan for a few values looks cheaper than the kept one. Planning costs more than the lookup.
    """
    return _IsKeyAmong(column, parameter)


def unnest_rows(parameter: str, **columns: TypeEngine[Any]) -> Subquery:
    """Build rows to join with from the list parameter `parameter`, whose items are lists of values for `columns`."""
    each = _Items(bindparam(parameter, type_=Text(), required=True)).table_valued("value", name=f"{parameter}_each")
    selected = [_Item(each.c.value, index, type_).label(name) for index, (name, type_) in enumerate(columns.items())]
    return select(*selected).select_from(each).subquery(f"{parameter}_rows")


def is_empty_list(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Build the condition that the JSON list in `column` is empty."""
    return _IsEmptyList(column)


class ListCondition(FunctionElement[Any]):
    """A condition on a column and a list that is passed as one value.

    Its type is not Boolean: SQLAlchemy would append `= 1` on SQLite, which prevents the use of an index.
    """

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        super().__init__(column)
        self.column = column
        self.parameter = parameter

    def sqlite_operands(self, compiler: SQLCompiler, options: dict[str, Any]) -> tuple[str, str]:
        """Compile the column and the list, which sqlite3 receives as JSON."""
        values = bindparam(self.parameter, type_=Text(), required=True)
        return compiler.process(self.column, **options), compiler.process(values, **options)

    def postgresql_operands(self, compiler: SQLCompiler, options: dict[str, Any]) -> tuple[str, str]:
        """Compile the column and the list, which asyncpg receives as an array of texts."""
        values = bindparam(self.parameter, type_=ARRAY(Text), required=True)
        return compiler.process(self.column, **options), compiler.process(values, **options)


class _IsAmong(ListCondition):
    name = "is_among"
    inherit_cache = False


@compiles(_IsAmong, "sqlite")
def _is_among_in_sqlite(element: _IsAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.sqlite_operands(compiler, options)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - built from placeholders, not values


@compiles(_IsAmong, "postgresql")
def _is_among_in_postgresql(element: _IsAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.postgresql_operands(compiler, options)
    sql_type = compiler.dialect.type_compiler_instance.process(element.column.type)
    # The column's index is used only for an array of the column's type.
    return f"{column} = ANY (CAST({values} AS {sql_type.split(' COLLATE')[0]}[]))"


class _IsKeyAmong(_IsAmong):
    name = "is_key_among"
    inherit_cache = False


@compiles(_IsKeyAmong, "postgresql")
def _is_key_among_in_postgresql(element: _IsKeyAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.postgresql_operands(compiler, options)
    sql_type = compiler.dialect.type_compiler_instance.process(element.column.type)
    return f"{column} = ANY (ARRAY(SELECT CAST(unnest({values}) AS {sql_type.split(' COLLATE')[0]})))"


class _Items(FunctionElement[Any]):
    """The items of a JSON list as rows."""

    name = "items"
    inherit_cache = False


@compiles(_Items, "sqlite")
def _items_in_sqlite(element: _Items, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Items, "postgresql")
def _items_in_postgresql(element: _Items, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS JSONB))"


class _Item(FunctionElement[Any]):
    """One value of a JSON list, converted to the type of a column."""

    name = "item"
    inherit_cache = False

    def __init__(self, items: ColumnElement[Any], index: int, type_: TypeEngine[Any]) -> None:
        super().__init__(items)
        self.index = index
        self.type = type_


@compiles(_Item, "sqlite")
def _item_in_sqlite(element: _Item, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **options)}, '$[{element.index}]')"


@compiles(_Item, "postgresql")
def _item_in_postgresql(element: _Item, compiler: SQLCompiler, **options: Any) -> str:
    sql_type = compiler.dialect.type_compiler_instance.process(element.type)
    return f"CAST({compiler.process(element.clauses, **options)} ->> {element.index} AS {sql_type})"


class _IsEmptyList(DialectExpression):
    """The condition that a JSON list is empty."""


@compiles(_IsEmptyList, "sqlite")
def _is_empty_list_in_sqlite(element: _IsEmptyList, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} = '[]')"


@compiles(_IsEmptyList, "postgresql")
def _is_empty_list_in_postgresql(element: _IsEmptyList, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} = CAST('[]' AS JSONB))"
