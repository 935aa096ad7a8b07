"""SQL statements that are written once with SQLAlchemy Core and compiled once for each dialect.

SQLAlchemy's execution costs several times what the database needs for a small statement. Units of work therefore pass
the compiled text directly to the driver. A statement never changes its shape: a list is passed as one value (see
`db.sql.lists`).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Dialect, FromClause, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import ClauseElement

Parameters = Mapping[str, Any]


class LongText(Text):
    """Type of columns whose texts are limited only by the size of a request."""

    cache_ok = True


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """The text of a statement for one driver, and how values are bound to its placeholders."""

    text: str
    constants: Parameters
    """Values that are part of the statement itself."""
    positional_names: Sequence[str]
    """Names of the parameters in the order of their numbers. Empty for a driver that takes parameters by name."""
    array_parameters: frozenset[str]
    """Parameters that the driver takes as arrays. Any other list is passed as JSON."""
    locks_rows: bool
    """Whether the statement locks the rows that it reads until the transaction ends."""
    get_positional_values: Callable[[Parameters], tuple[Any, ...]]
    """Function that returns the values of `positional_names`."""
    measure: Callable[[Sequence[Any]], int] | None
    """Function that returns the number of characters in a row's long texts. None when no column is a `LongText`."""

    def bind_by_name(self, parameters: Parameters) -> Parameters:
        """Return the values by name, for sqlite3."""
        values = {**self.constants, **parameters} if self.constants else parameters
        return {
            name: orjson.dumps(value).decode() if isinstance(value, list) else value for name, value in values.items()
        }

    def bind_by_position(self, parameters: Parameters) -> list[Any]:
        """Return the values in the order of their numbers, for asyncpg."""
        values = {**self.constants, **parameters} if self.constants else parameters
        return [
            orjson.dumps(value).decode()
            if isinstance(value := values[name], list) and name not in self.array_parameters
            else value
            for name in self.positional_names
        ]

    def bind_rows_by_name(self, rows: Sequence[Parameters]) -> Sequence[Parameters]:
        """Return the values of many rows by name. The rows must not contain lists."""
        return [{**self.constants, **row} for row in rows] if self.constants else rows

    def bind_row_by_position(self, row: Parameters) -> tuple[Any, ...]:
        """Return the values of one row in the order of their numbers. The row must not contain lists."""
        return self.get_positional_values({**self.constants, **row} if self.constants else row)


class Statement:
    """One SQL statement, compiled at its first use."""

    def __init__(
        self, element: Executable, columns: Sequence[str] = (), *, postgresql: Executable | None = None
    ) -> None:
        """Wrap `element`; on PostgreSQL, use the equivalent `postgresql` if it is given.

        `columns` names the columns that an INSERT or UPDATE sets from parameters of the same name.
        """
        self._element = element
        self._on_postgresql = element if postgresql is None else postgresql
        self._columns = columns

    @property
    def table(self) -> FromClause:
        """The table that an INSERT, UPDATE or DELETE writes to."""
        assert isinstance(self._on_postgresql, Insert | Update | Delete)
        return self._on_postgresql.table

    @property
    def inserts(self) -> bool:
        """Whether the statement is an INSERT."""
        return isinstance(self._on_postgresql, Insert)

    @cached_property
    def for_sqlite(self) -> CompiledStatement:
        """The statement compiled for sqlite3, with named parameters."""
        return _compile(self._element, self._columns, _SQLite(paramstyle="named"))

    @cached_property
    def for_postgresql(self) -> CompiledStatement:
        """The statement compiled for asyncpg, with numbered parameters."""
        from sqlalchemy.dialects.postgresql import asyncpg  # noqa: PLC0415 - not loaded on SQLite

        return _compile(self._on_postgresql, self._columns, asyncpg.dialect())  # pyright: ignore


class _SQLiteCompiler(SQLiteCompiler):
    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        """Write table hints such as `INDEXED BY`, which SQLAlchemy omits for SQLite."""
        return text


class _SQLite(SQLiteDialect):
    statement_compiler = _SQLiteCompiler


def _compile(element: Executable, columns: Sequence[str], dialect: Dialect) -> CompiledStatement:
    assert isinstance(element, ClauseElement)
    compiled = element.compile(dialect=dialect, column_keys=list(columns) or None)
    assert isinstance(compiled, SQLCompiler)
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    positional_names = compiled.positiontup or ()
    return CompiledStatement(
        text=str(compiled),
        constants={name: bind.value for name, bind in binds.items() if not bind.required},
        positional_names=positional_names,
        array_parameters=frozenset(name for name, bind in binds.items() if isinstance(bind.type, ARRAY)),
        locks_rows=_LOCKING_CLAUSE.search(str(compiled)) is not None,
        get_positional_values=_positional_getter(positional_names),
        measure=_compile_measure(element),
    )


def _compile_measure(element: ClauseElement) -> Callable[[Sequence[Any]], int] | None:
    selected: Iterable[ColumnElement[Any]] = getattr(element, "exported_columns", ())
    long_columns = [index for index, column in enumerate(selected) if isinstance(column.type, LongText)]
    if not long_columns:
        return None
    lengths = " + ".join(f"len(row[{index}] or ())" for index in long_columns)
    # A loop over the columns would take three times as long for each row as this generated sum.
    return eval(f"lambda row: {lengths}")  # noqa: S307 - built from numbers


def _positional_getter(positional_names: Sequence[str]) -> Callable[[Parameters], tuple[Any, ...]]:
    if len(positional_names) > 1:
        return itemgetter(*positional_names)
    # For a single name, itemgetter would return the value instead of a tuple.
    return lambda row: tuple(row[name] for name in positional_names)


_LOCKING_CLAUSE = re.compile(r"\bFOR (NO KEY )?UPDATE\b")
_PLACEHOLDER = re.compile(r"\$(\d+)")


@cache
def combine(statements: tuple[Statement, ...]) -> str:
    """Return one PostgreSQL statement that executes all of these INSERTs, UPDATEs and DELETEs.

    Its placeholders are those of the first statement, followed by those of the second, and so on.
    """
    texts: list[str] = []
    offset = 0
    for each in (statement.for_postgresql for statement in statements):
        texts.append(_PLACEHOLDER.sub(lambda match, offset=offset: f"${int(match[1]) + offset}", each.text))
        offset += len(each.positional_names)
    *parts, last = texts
    named = ", ".join(f"part_{number} AS ({text})" for number, text in enumerate(parts))
    return f"WITH {named} {last}" if parts else last
