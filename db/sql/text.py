"""Expressions that search, order and format text."""

import sys
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.sql.dialects import DialectExpression

_SURROGATES = range(0xD800, 0xE000)


def contains_text(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Build the condition that the text parameter `parameter` occurs in `column`, ignoring the case of ASCII letters.

    Other letters are compared with their case: SQLite folds ASCII only, and a filter must match the same rows on both
    databases.
    """
    return _Position(column, bindparam(parameter, required=True)) > literal_column("0")


def end_of_prefix(prefix: str) -> str | None:
    """Return the first text, by code point, that follows all texts with this prefix; None when no text follows them."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    code_point = ord(kept[-1]) + 1
    # A database stores no surrogates.
    return kept[:-1] + chr(_SURROGATES.stop if code_point in _SURROGATES else code_point)


def collate_by_code_point(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Order the text `column` by code point instead of by the rules of a language."""
    return _CollateByCodePoint(column)


def format_text(pattern: str, *values: ColumnElement[Any]) -> ColumnElement[str]:
    """Insert the values into the text parameter `pattern`, which contains `%s` for each of them."""
    return _FormatText(bindparam(pattern, type_=Text(), required=True), *values)


class _Position(DialectExpression):
    """Position of one text in another, counted from 1, ignoring the case of ASCII letters. 0 when it does not occur."""


@compiles(_Position, "sqlite")
def _position_in_sqlite(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    text, part = (compiler.process(each, **options) for each in element.clauses)
    return f"instr(lower({text}), lower({part}))"


@compiles(_Position, "postgresql")
def _position_in_postgresql(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    text, part = (compiler.process(each, **options) for each in element.clauses)
    # With the collation C, lower() changes ASCII letters only, as it always does in SQLite.
    return f"""strpos(lower({text} COLLATE "C"), lower(CAST({part} AS TEXT) COLLATE "C"))"""


class _CollateByCodePoint(DialectExpression):
    """A text that is compared by code point."""


@compiles(_CollateByCodePoint, "sqlite")
def _collate_by_code_point_in_sqlite(element: _CollateByCodePoint, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_CollateByCodePoint, "postgresql")
def _collate_by_code_point_in_postgresql(element: _CollateByCodePoint, compiler: SQLCompiler, **options: Any) -> str:
    return f"""({compiler.process(element.clauses, **options)} COLLATE "C")"""


class _FormatText(DialectExpression):
    """A pattern with values inserted."""

    type = Text()


@compiles(_FormatText, "sqlite")
def _format_text_in_sqlite(element: _FormatText, compiler: SQLCompiler, **options: Any) -> str:
    values = [compiler.process(each, **options) for each in element.clauses]
    # SQLite's printf returns null for a result that is too long; the concatenation then raises the error.
    return f"coalesce(printf({', '.join(values)}), {' || '.join(values)})"


@compiles(_FormatText, "postgresql")
def _format_text_in_postgresql(element: _FormatText, compiler: SQLCompiler, **options: Any) -> str:
    return f"format({compiler.process(element.clauses, **options)})"
