"""Statements that are written once with SQLAlchemy Core and turned into text once for each kind of database.

SQLAlchemy's own execution costs several times what the database needs for a small statement, so units of work hand the
finished text to the driver. A statement therefore never changes its shape: a list goes in as one value (`is_among`).

What the two databases say differently has a name here and a form for each, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Dialect, Text, bindparam, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.types import Boolean, TypeEngine

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a driver gets: the text, and values for its places."""

    text: str
    constants: Parameters
    """The values that were written into the statement itself."""
    places: Sequence[str]
    """The parameters in the order of their numbers, where the driver numbers them."""
    lists: frozenset[str]
    """The parameters that the driver takes as lists; any other list goes in as JSON."""

    def by_name(self, given: Parameters) -> Parameters:
        """The values by name, for sqlite3."""
        values = {**self.constants, **given} if self.constants else given
        return {
            name: orjson.dumps(value).decode() if isinstance(value, list) else value for name, value in values.items()
        }

    def in_order(self, given: Parameters) -> list[Any]:
        """The values in the order of their numbers, for asyncpg."""
        values = {**self.constants, **given} if self.constants else given
        return [
            orjson.dumps(value).decode()
            if isinstance(value := values[name], list) and name not in self.lists
            else value
            for name in self.places
        ]


class Statement:
    """One SQL statement; its text is made at its first use."""

    def __init__(
        self, element: Executable, columns: Sequence[str] = (), *, postgresql: Executable | None = None
    ) -> None:
        """`columns` are the ones that an INSERT or UPDATE sets from parameters of the same name.

        `postgresql` says the same for PostgreSQL, where that needs another form of statement.
        """
        self._element = element
        self._on_postgresql = element if postgresql is None else postgresql
        self._columns = columns

    @cached_property
    def for_sqlite(self) -> Compiled:
        """The text for sqlite3, with named parameters."""
        return _compile(self._element, self._columns, sqlite.dialect(paramstyle="named"))

    @cached_property
    def for_postgresql(self) -> Compiled:
        """The text for asyncpg, with numbered parameters."""
        from sqlalchemy.dialects.postgresql import asyncpg  # noqa: PLC0415 - not paid for on SQLite

        return _compile(self._on_postgresql, self._columns, asyncpg.dialect())  # pyright: ignore


def _compile(element: Executable, columns: Sequence[str], dialect: Dialect) -> Compiled:
    assert isinstance(element, ClauseElement)
    compiled = element.compile(dialect=dialect, column_keys=list(columns) or None)
    assert isinstance(compiled, SQLCompiler)
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    return Compiled(
        text=str(compiled),
        constants={name: bind.value for name, bind in binds.items() if not bind.required},
        places=compiled.positiontup or (),
        lists=frozenset(name for name, bind in binds.items() if isinstance(bind.type, ARRAY)),
    )


def is_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether `column` is one of the values of the list `parameter`, however many these are."""
    return _IsAmong(column, parameter)


def has_tag_among(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the JSON list in the column `tags` has one of the values of the list `parameter`."""
    return _HasTagAmong(tags, parameter)


def rows_of(parameter: str, **columns: TypeEngine[Any]) -> Subquery:
    """The list `parameter`, whose items are lists of as many values as `columns`, as rows to join with."""
    each = _Items(bindparam(parameter, type_=Text(), required=True)).table_valued("value", name=f"{parameter}_each")
    picked = [_Item(each.c.value, place, type_).label(name) for place, (name, type_) in enumerate(columns.items())]
    return select(*picked).select_from(each).subquery(f"{parameter}_rows")


class _OfList(FunctionElement[bool]):
    """A condition on a column and a list that goes in as one value."""

    type = Boolean()
    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        super().__init__(column)
        self.column = column
        self.parameter = parameter

    def in_sqlite(self, compiler: SQLCompiler, keywords: dict[str, Any]) -> tuple[str, str]:
        """The column and the list, which sqlite3 takes as JSON."""
        values = bindparam(self.parameter, type_=Text(), required=True)
        return compiler.process(self.column, **keywords), compiler.process(values, **keywords)

    def in_postgresql(self, compiler: SQLCompiler, keywords: dict[str, Any]) -> tuple[str, str]:
        """The column and the list, which asyncpg takes as an array of texts."""
        values = bindparam(self.parameter, type_=ARRAY(Text), required=True)
        return compiler.process(self.column, **keywords), compiler.process(values, **keywords)


class _IsAmong(_OfList):
    name = "is_among"
    inherit_cache = False


@compiles(_IsAmong, "sqlite")
def _is_among_in_sqlite(element: _IsAmong, compiler: SQLCompiler, **keywords: Any) -> str:
    column, values = element.in_sqlite(compiler, keywords)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - made of places, not of values


@compiles(_IsAmong, "postgresql")
def _is_among_in_postgresql(element: _IsAmong, compiler: SQLCompiler, **keywords: Any) -> str:
    column, values = element.in_postgresql(compiler, keywords)
    kind = compiler.dialect.type_compiler_instance.process(element.column.type)
    # An array of the column's own type, so that the column's index serves.
    return f"{column} = ANY (CAST({values} AS {kind.split(' COLLATE')[0]}[]))"


class _HasTagAmong(_OfList):
    name = "has_tag_among"
    inherit_cache = False


@compiles(_HasTagAmong, "sqlite")
def _has_tag_among_in_sqlite(element: _HasTagAmong, compiler: SQLCompiler, **keywords: Any) -> str:
    column, values = element.in_sqlite(compiler, keywords)
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN (SELECT value FROM json_each({values})))"  # noqa: S608


@compiles(_HasTagAmong, "postgresql")
def _has_tag_among_in_postgresql(element: _HasTagAmong, compiler: SQLCompiler, **keywords: Any) -> str:
    column, values = element.in_postgresql(compiler, keywords)
    return f"{column} ?| {values}"


class _Items(FunctionElement[Any]):
    """The items of a JSON list, as rows."""

    name = "items"
    inherit_cache = False


@compiles(_Items, "sqlite")
def _items_in_sqlite(element: _Items, compiler: SQLCompiler, **keywords: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **keywords)})"


@compiles(_Items, "postgresql")
def _items_in_postgresql(element: _Items, compiler: SQLCompiler, **keywords: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **keywords)} AS JSONB))"


class _Item(FunctionElement[Any]):
    """One of the values of a JSON list, as a value of a column."""

    name = "item"
    inherit_cache = False

    def __init__(self, items: ColumnElement[Any], place: int, type_: TypeEngine[Any]) -> None:
        super().__init__(items)
        self.place = place
        self.type = type_


@compiles(_Item, "sqlite")
def _item_in_sqlite(element: _Item, compiler: SQLCompiler, **keywords: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **keywords)}, '$[{element.place}]')"


@compiles(_Item, "postgresql")
def _item_in_postgresql(element: _Item, compiler: SQLCompiler, **keywords: Any) -> str:
    kind = compiler.dialect.type_compiler_instance.process(element.type)
    return f"CAST({compiler.process(element.clauses, **keywords)} ->> {element.place} AS {kind})"
