"""Statements that are written once with SQLAlchemy Core and turned into text once for each kind of database.

SQLAlchemy's own execution costs several times what the database needs for a small statement, so units of work hand the
finished text to the driver. A statement therefore never changes its shape: a list goes in as one value (`is_among`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Text, bindparam, func, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.selectable import Subquery

_SQLITE = sqlite.dialect(paramstyle="named")

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the driver gets: the text, and the values that were written into the statement itself."""

    text: str
    constants: Parameters

    def parameters(self, given: Parameters) -> Parameters:
        return {**self.constants, **given} if self.constants else given


class Statement:
    """One SQL statement; its text is made at its first use."""

    def __init__(self, element: Executable, columns: Sequence[str] = ()) -> None:
        """`columns` are the ones that an INSERT or UPDATE sets from parameters of the same name."""
        self._element = element
        self._columns = columns
        self._for_sqlite: Compiled | None = None

    def for_sqlite(self) -> Compiled:
        """The text for sqlite3, with named parameters."""
        if self._for_sqlite is None:
            self._for_sqlite = _compile(self._element, self._columns, _SQLITE)
        return self._for_sqlite


def _compile(element: Executable, columns: Sequence[str], dialect: Dialect) -> Compiled:
    assert isinstance(element, ClauseElement)
    compiled = element.compile(dialect=dialect, column_keys=list(columns) or None)
    assert isinstance(compiled, SQLCompiler)
    constants = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
    return Compiled(str(compiled), constants)


def is_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether `column` is one of the values of the list `parameter`, however many these are."""
    return column.in_(select(_each(parameter).c.value))


def has_tag_among(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the JSON list in the column `tags` has one of the values of the list `parameter`."""
    tag = func.json_each(tags).table_valued("value", name="tag_each")
    return select(tag.c.value).select_from(tag).where(is_among(tag.c.value, parameter)).exists()


def rows_of(parameter: str, *columns: str) -> Subquery:
    """The list `parameter`, whose items are lists of as many values as `columns`, as rows to join with."""
    each = _each(parameter)
    picked = [
        func.json_extract(each.c.value, literal_column(f"'$[{place}]'")).label(name)
        for place, name in enumerate(columns)
    ]
    return select(*picked).select_from(each).subquery(f"{parameter}_rows")


def _each(parameter: str) -> Any:
    return func.json_each(bindparam(parameter, type_=Text(), required=True)).table_valued(
        "value", name=f"{parameter}_each"
    )
