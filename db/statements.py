"""Statements that are written once with SQLAlchemy Core and turned into text once for each kind of database.

SQLAlchemy's own execution costs several times what the database needs for a small statement, so units of work hand the
finished text to the driver. A statement therefore never changes its shape: a list goes in as one value (`is_among`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Select, Text, bindparam, func, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement
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


# --- what the databases say in different words ---


class _Written(FunctionElement[Any]):
    """Something that is written out for each kind of database below."""

    inherit_cache = True


class _Position(_Written):
    """Where a text has another one in it, counted from 1, by whatever is a letter of ASCII in either case; else 0."""


@compiles(_Position, "sqlite")
def _position_in_sqlite(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    text, part = (compiler.process(each, **options) for each in element.clauses)
    return f"instr(lower({text}), lower({part}))"


@compiles(_Position, "postgresql")
def _position_in_postgresql(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    text, part = (compiler.process(each, **options) for each in element.clauses)
    # In the collation C, lower() knows the letters of ASCII alone: what SQLite's does anyway.
    return f"""strpos(lower({text} COLLATE "C"), lower(CAST({part} AS TEXT) COLLATE "C"))"""


def contains_text(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the text `parameter` occurs in the text `column`, whatever the case of ASCII letters.

    Other letters have to be the same: SQLite knows no other cases, and one filter is to mean the same everywhere.
    """
    return _Position(column, bindparam(parameter, required=True)) > literal_column("0")


class _HasAllTags(_Written):
    """Whether a JSON list has all texts of another list."""


@compiles(_HasAllTags, "sqlite")
def _has_all_tags_in_sqlite(element: _HasAllTags, compiler: SQLCompiler, **options: Any) -> str:
    tags, wanted = (compiler.process(each, **options) for each in element.clauses)
    has = f"SELECT value FROM json_each({tags})"  # noqa: S608 - a column and a parameter
    lacking = f"SELECT 1 FROM json_each({wanted}) AS wanted WHERE wanted.value NOT IN ({has})"  # noqa: S608
    return f"(NOT EXISTS ({lacking}))"


@compiles(_HasAllTags, "postgresql")
def _has_all_tags_in_postgresql(element: _HasAllTags, compiler: SQLCompiler, **options: Any) -> str:
    tags, wanted = (compiler.process(each, **options) for each in element.clauses)
    return f"({tags} ?& CAST({wanted} AS TEXT[]))"


def has_all_tags(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the JSON list in the column `tags` has all values of the list `parameter`."""
    return _HasAllTags(tags, bindparam(parameter, required=True))


class _HasTag(_Written):
    """Whether a JSON list has a text."""


@compiles(_HasTag, "sqlite")
def _has_tag_in_sqlite(element: _HasTag, compiler: SQLCompiler, **options: Any) -> str:
    tags, wanted = (compiler.process(each, **options) for each in element.clauses)
    return f"(EXISTS (SELECT 1 FROM json_each({tags}) WHERE value = {wanted}))"  # noqa: S608 - a column, a parameter


@compiles(_HasTag, "postgresql")
def _has_tag_in_postgresql(element: _HasTag, compiler: SQLCompiler, **options: Any) -> str:
    tags, wanted = (compiler.process(each, **options) for each in element.clauses)
    return f"({tags} ? CAST({wanted} AS TEXT))"


def has_tag(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the JSON list in the column `tags` has the text `parameter`: cheaper than a list of one."""
    return _HasTag(tags, bindparam(parameter, required=True))


class _IsEmptyList(_Written):
    """Whether a JSON list is empty."""


@compiles(_IsEmptyList, "sqlite")
def _is_empty_list_in_sqlite(element: _IsEmptyList, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} = '[]')"


@compiles(_IsEmptyList, "postgresql")
def _is_empty_list_in_postgresql(element: _IsEmptyList, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} = CAST('[]' AS JSONB))"


def is_empty_list(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the JSON list in `column` is empty."""
    return _IsEmptyList(column)


class _ByCodePoint(_Written):
    """A text that is compared by code points."""


@compiles(_ByCodePoint, "sqlite")
def _by_code_point_in_sqlite(element: _ByCodePoint, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_ByCodePoint, "postgresql")
def _by_code_point_in_postgresql(element: _ByCodePoint, compiler: SQLCompiler, **options: Any) -> str:
    return f"""({compiler.process(element.clauses, **options)} COLLATE "C")"""


def by_code_point(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The text `column`, ordered by code points and not by the rules of a language."""
    return _ByCodePoint(column)


class _IsOneOf(_Written):
    """Whether a value is among those that a statement selects."""


@compiles(_IsOneOf, "sqlite")
def _is_one_of_in_sqlite(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, selected = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN {selected})"


@compiles(_IsOneOf, "postgresql")
def _is_one_of_in_postgresql(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, selected = (compiler.process(each, **options) for each in element.clauses)
    # As an array it can be looked up in an index, once for each outer row that the selection depends on.
    return f"({column} = ANY (ARRAY {selected}))"


def is_one_of(column: ColumnElement[Any], selected: Select[Any]) -> ColumnElement[bool]:
    """Whether `column` is among the few values of `selected`, which may be limited and depend on another table's row."""
    return _IsOneOf(column, selected.scalar_subquery())
