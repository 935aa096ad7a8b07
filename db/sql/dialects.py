"""What the two databases say in different words: each has a name here and a form for either, and nowhere else."""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Join, Select, Text, bindparam, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.types import TypeEngine


def is_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether `column` is one of the values of the list `parameter`, however many these are."""
    return _IsAmong(column, parameter)


def is_key_among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """As `is_among`, for a column that is looked up by its index however many values there are.

    PostgreSQL then keeps the statement's plan. Where it sees the values, it makes a new one each time, for a few of them
    look cheaper than what it would keep; and the planning costs more than the looking up.
    """
    return _IsKeyAmong(column, parameter)


def has_tag_among(tags: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether the JSON list in the column `tags` has one of the values of the list `parameter`."""
    return _HasTagAmong(tags, parameter)


def rows_of(parameter: str, **columns: TypeEngine[Any]) -> Subquery:
    """The list `parameter`, whose items are lists of as many values as `columns`, as rows to join with."""
    each = _Items(bindparam(parameter, type_=Text(), required=True)).table_valued("value", name=f"{parameter}_each")
    picked = [_Item(each.c.value, place, type_).label(name) for place, (name, type_) in enumerate(columns.items())]
    return select(*picked).select_from(each).subquery(f"{parameter}_rows")


class _OfList(FunctionElement[Any]):
    """A condition on a column and a list that goes in as one value.

    Not of the type Boolean: SQLAlchemy would write `= 1` after it on SQLite, and no index would serve.
    """

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


class _IsKeyAmong(_IsAmong):
    name = "is_key_among"
    inherit_cache = False


@compiles(_IsKeyAmong, "postgresql")
def _is_key_among_in_postgresql(element: _IsKeyAmong, compiler: SQLCompiler, **keywords: Any) -> str:
    column, values = element.in_postgresql(compiler, keywords)
    kind = compiler.dialect.type_compiler_instance.process(element.column.type)
    return f"{column} = ANY (ARRAY(SELECT CAST(unnest({values}) AS {kind.split(' COLLATE')[0]})))"


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
    return _HasAllTags(tags, bindparam(parameter, type_=ARRAY(Text), required=True))


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


class _MetBy(_Written):
    """A condition, and the share of rows that meet it."""


@compiles(_MetBy, "sqlite")
def _met_by_in_sqlite(element: _MetBy, compiler: SQLCompiler, **options: Any) -> str:
    condition, share = (compiler.process(each, **options) for each in element.clauses)
    return f"likelihood({condition}, {share})"


@compiles(_MetBy, "postgresql")
def _met_by_in_postgresql(element: _MetBy, compiler: SQLCompiler, **options: Any) -> str:
    condition, _ = element.clauses
    return compiler.process(condition, **options)


def met_by(share: float, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition, which about this share of all rows meets: SQLite, which keeps no statistics, takes an equality for a
    rare thing. It may still be looked up in an index."""
    return _MetBy(condition, literal_column(str(share)))


class _ForEach(Join):
    """A join that looks up the rows on the right for each row on the left."""

    inherit_cache = False


@compiles(_ForEach, "sqlite")
def _for_each_in_sqlite(element: _ForEach, compiler: SQLCompiler, **options: Any) -> str:
    left, right = (compiler.process(each, **{**options, "asfrom": True}) for each in (element.left, element.right))
    return f"{left} CROSS JOIN {right}"


def for_each(rows: FromClause, looked_up: FromClause) -> Join:
    """Every row of `rows` with every one of `looked_up` that the statement's conditions leave, looked up in this order.

    SQLite would choose an order by its statistics, if somebody has had it make some, and these know nothing of what is in
    a list, nor how a queue has grown since.
    """
    return _ForEach(rows, looked_up, true())


class _Later(_Written):
    """The instant so many seconds after another one."""


@compiles(_Later, "sqlite")
def _later_in_sqlite(element: _Later, compiler: SQLCompiler, **options: Any) -> str:
    start, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"(strftime('%Y-%m-%dT%H:%M:%f', {start}, {seconds} || ' seconds') || '000Z')"


@compiles(_Later, "postgresql")
def _later_in_postgresql(element: _Later, compiler: SQLCompiler, **options: Any) -> str:
    start, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"({start} + {seconds} * INTERVAL '1 second')"


def later(start: ColumnElement[Any], seconds: ColumnElement[Any]) -> ColumnElement[Any]:
    """The instant `seconds` after `start`; on SQLite to the millisecond."""
    return _Later(start, seconds)


MARK = "\t"
"""Stands before and behind what is left to be written in one way; no JSON has it in a text."""
_NULL = f"'{MARK}nan{MARK}'"
"""What stands for null."""


class _JsonText(_Written):
    """A text as JSON."""

    type = Text()


@compiles(_JsonText, "sqlite")
def _json_text_in_sqlite(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"CASE WHEN {text} IS NULL THEN {_NULL} ELSE json_quote({text}) END"


@compiles(_JsonText, "postgresql")
def _json_text_in_postgresql(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce(CAST(to_json({compiler.process(element.clauses, **options)}) AS TEXT), {_NULL})"


def json_text(text: ColumnElement[str]) -> ColumnElement[str]:
    """The text as JSON; `nan` between two MARKs where there is none."""
    return _JsonText(text)


class _JsonNumber(_Written):
    """A number as JSON."""

    type = Text()


@compiles(_JsonNumber, "sqlite")
def _json_number_in_sqlite(element: _JsonNumber, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    usual = f"{number} = 0 OR {number} >= 1e-4 AND {number} < 1e14"
    return f"CASE WHEN {usual} THEN {number} ELSE coalesce('{MARK}' || {number} || '{MARK}', {_NULL}) END"


@compiles(_JsonNumber, "postgresql")
def _json_number_in_postgresql(element: _JsonNumber, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    usual = f"{number} >= CAST(1e-4 AS DOUBLE PRECISION) AND {number} < CAST(1e14 AS DOUBLE PRECISION)"
    text = f"CAST({number} AS TEXT)"
    whole = f"CASE WHEN {number} = trunc({number}) THEN {text} || '.0' ELSE {text} END"
    unusual = f"coalesce('{MARK}' || {text} || '{MARK}', {_NULL})"
    return f"CASE WHEN {usual} THEN {whole} WHEN {number} = 0 THEN '0.0' ELSE {unusual} END"


def json_number(number: ColumnElement[float]) -> ColumnElement[str]:
    """The number as JSON, with a fraction, to be filled into a pattern; between two MARKs, and as the database writes it,
    where it is very large, very small, negative or none."""
    return _JsonNumber(number)


class _Formatted(_Written):
    """A text with values filled in."""

    type = Text()


@compiles(_Formatted, "sqlite")
def _formatted_in_sqlite(element: _Formatted, compiler: SQLCompiler, **options: Any) -> str:
    values = [compiler.process(each, **options) for each in element.clauses]
    # Of a text that is too long SQLite makes a null, and says nothing; put together otherwise it is an error.
    return f"coalesce(printf({', '.join(values)}), {' || '.join(values)})"


@compiles(_Formatted, "postgresql")
def _formatted_in_postgresql(element: _Formatted, compiler: SQLCompiler, **options: Any) -> str:
    return f"format({compiler.process(element.clauses, **options)})"


def formatted(pattern: str, *values: ColumnElement[Any]) -> ColumnElement[str]:
    """The parameter `pattern`, a text that has `%s` in it for each of the values, with these filled in."""
    return _Formatted(bindparam(pattern, type_=Text(), required=True), *values)
