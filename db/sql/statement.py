"""Statements that are written once with SQLAlchemy Core and turned into text once for each kind of database.

SQLAlchemy's own execution costs several times what the database needs for a small statement, so units of work hand the
finished text to the driver. A statement therefore never changes its shape: a list goes in as one value (see `db.sql.dialects`).
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
    """The type of a column whose texts nothing limits but the size of a request."""

    cache_ok = True


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
    locks: bool
    """Whether it locks the rows that it reads, for as long as a transaction goes on."""
    pick: Callable[[Parameters], tuple[Any, ...]]
    """The values of `places`."""
    weigh: Callable[[Sequence[Any]], int] | None
    """How many characters a row's long values have; None where no column can be long."""

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

    def rows_by_name(self, rows: Sequence[Parameters]) -> Sequence[Parameters]:
        """As `by_name`, for many rows without lists."""
        return [{**self.constants, **row} for row in rows] if self.constants else rows

    def row_in_order(self, row: Parameters) -> tuple[Any, ...]:
        """As `in_order`, for a row without lists."""
        return self.pick({**self.constants, **row} if self.constants else row)


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

    @property
    def table(self) -> FromClause:
        """What an INSERT, UPDATE or DELETE writes to."""
        assert isinstance(self._on_postgresql, Insert | Update | Delete)
        return self._on_postgresql.table

    @property
    def inserts(self) -> bool:
        """Whether it is an INSERT."""
        return isinstance(self._on_postgresql, Insert)

    @cached_property
    def for_sqlite(self) -> Compiled:
        """The text for sqlite3, with named parameters."""
        return _compile(self._element, self._columns, _SQLite(paramstyle="named"))

    @cached_property
    def for_postgresql(self) -> Compiled:
        """The text for asyncpg, with numbered parameters."""
        from sqlalchemy.dialects.postgresql import asyncpg  # noqa: PLC0415 - not paid for on SQLite

        return _compile(self._on_postgresql, self._columns, asyncpg.dialect())  # pyright: ignore


class _SQLiteCompiler(SQLiteCompiler):
    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        """Write hints, which SQLAlchemy leaves out for SQLite: `INDEXED BY` is one."""
        return text


class _SQLite(SQLiteDialect):
    statement_compiler = _SQLiteCompiler


def _compile(element: Executable, columns: Sequence[str], dialect: Dialect) -> Compiled:
    assert isinstance(element, ClauseElement)
    compiled = element.compile(dialect=dialect, column_keys=list(columns) or None)
    assert isinstance(compiled, SQLCompiler)
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    places = compiled.positiontup or ()
    return Compiled(
        text=str(compiled),
        constants={name: bind.value for name, bind in binds.items() if not bind.required},
        places=places,
        lists=frozenset(name for name, bind in binds.items() if isinstance(bind.type, ARRAY)),
        locks=_LOCKS.search(str(compiled)) is not None,
        pick=_picking(places),
        weigh=_weighing(element),
    )


def _weighing(element: ClauseElement) -> Callable[[Sequence[Any]], int] | None:
    selected: Iterable[ColumnElement[Any]] = getattr(element, "exported_columns", ())
    long = [place for place, column in enumerate(selected) if isinstance(column.type, LongText)]
    if not long:
        return None
    lengths = " + ".join(f"len(row[{place}] or ())" for place in long)
    # Written out, since a loop over the places would take three times as long for each row.
    return eval(f"lambda row: {lengths}")  # noqa: S307 - made of numbers


def _picking(places: Sequence[str]) -> Callable[[Parameters], tuple[Any, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    # Of one name, itemgetter gives the value itself.
    return lambda row: tuple(row[place] for place in places)


_LOCKS = re.compile(r"\bFOR (NO KEY )?UPDATE\b")
_PLACE = re.compile(r"\$(\d+)")


@cache
def together(statements: tuple[Statement, ...]) -> str:
    """The text with which PostgreSQL carries out all of these INSERTs, UPDATEs and DELETEs as one statement.

    Its places are those of the first, then those of the second, and so on.
    """
    texts: list[str] = []
    before = 0
    for each in (statement.for_postgresql for statement in statements):
        texts.append(_PLACE.sub(lambda place, before=before: f"${int(place[1]) + before}", each.text))
        before += len(each.places)
    *parts, last = texts
    named = ", ".join(f"part_{number} AS ({text})" for number, text in enumerate(parts))
    return f"WITH {named} {last}" if parts else last
