"""Expressions that format text and numbers as JSON in the database, and that read a JSON document there."""

from typing import Any

from sqlalchemy import ColumnElement, Text, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from db.sql.dialects import DialectExpression

FALLBACK_MARK = "\t"
"""Delimiter before and after values that the caller must format. No JSON string contains it unescaped."""
_NULL = f"'{FALLBACK_MARK}nan{FALLBACK_MARK}'"
"""Replacement for null."""


def json_text(text: ColumnElement[str]) -> ColumnElement[str]:
    """Format the text as a JSON string. Null becomes `nan` between two `FALLBACK_MARK`s."""
    return _JsonText(text)


def json_number(number: ColumnElement[float]) -> ColumnElement[str]:
    """Format the number as JSON with a fraction, for use in `format_text`.

    Zero and numbers from 1e-4 to below 1e14 are formatted. Any other number, including a negative one, appears between
    two `FALLBACK_MARK`s in the notation of the database, and null as `nan`.
    """
    return _JsonNumber(number)


def text_member(document: ColumnElement[Any], name: str) -> ColumnElement[str]:
    """Read a text from the members of a JSON object. Null when it has no member of this name, a Python identifier."""
    assert name.isidentifier()
    return _TextMember(document, literal_column(f"'{name}'"))


class _JsonText(DialectExpression):
    """A text formatted as a JSON string."""

    type = Text()


@compiles(_JsonText, "sqlite")
def _json_text_in_sqlite(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"CASE WHEN {text} IS NULL THEN {_NULL} ELSE json_quote({text}) END"


@compiles(_JsonText, "postgresql")
def _json_text_in_postgresql(element: _JsonText, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce(CAST(to_json({compiler.process(element.clauses, **options)}) AS TEXT), {_NULL})"


class _JsonNumber(DialectExpression):
    """A number formatted as JSON."""

    type = Text()


@compiles(_JsonNumber, "sqlite")
def _json_number_in_sqlite(element: _JsonNumber, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    usual = f"{number} = 0 OR {number} >= 1e-4 AND {number} < 1e14"
    return f"CASE WHEN {usual} THEN {number} ELSE coalesce('{FALLBACK_MARK}' || {number} || '{FALLBACK_MARK}', {_NULL}) END"


@compiles(_JsonNumber, "postgresql")
def _json_number_in_postgresql(element: _JsonNumber, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    usual = f"{number} >= CAST(1e-4 AS DOUBLE PRECISION) AND {number} < CAST(1e14 AS DOUBLE PRECISION)"
    text = f"CAST({number} AS TEXT)"
    whole = f"CASE WHEN {number} = trunc({number}) THEN {text} || '.0' ELSE {text} END"
    unusual = f"coalesce('{FALLBACK_MARK}' || {text} || '{FALLBACK_MARK}', {_NULL})"
    return f"CASE WHEN {usual} THEN {whole} WHEN {number} = 0 THEN '0.0' ELSE {unusual} END"


class _TextMember(DialectExpression):
    """A text among the members of a JSON object."""

    type = Text()


@compiles(_TextMember, "sqlite")
def _text_member_in_sqlite(element: _TextMember, compiler: SQLCompiler, **options: Any) -> str:
    document, name = (compiler.process(each, **options) for each in element.clauses)
    return f"json_extract({document}, '$.' || {name})"


@compiles(_TextMember, "postgresql")
def _text_member_in_postgresql(element: _TextMember, compiler: SQLCompiler, **options: Any) -> str:
    document, name = (compiler.process(each, **options) for each in element.clauses)
    return f"({document} ->> {name})"
