"""Records the statements that the server executes for a query: the texts and values that its driver receives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from strawberry.types.graphql import OperationType

from db.connection import NOTHING, Connection, Row
from db.database import Database
from db.postgresql.database import PostgreSQLDatabase
from db.runtime.clock import SystemClock
from db.sql.statement import Parameters, Statement
from db.sqlite.database import SQLiteDatabase
from schema.context import Context
from schema.root import build_schema

T = TypeVar("T")

_UNUSED = cast("Any", None)
"""Dependencies that queries of rows do not use: the queue, the feed, writes, information about the server."""

Call = tuple[str, Any]
"""A text, and its values by name (SQLite) or by position (PostgreSQL)."""


async def record_statements(
    database_url: str, queries: Mapping[str, tuple[str, dict[str, Any]]]
) -> dict[str, list[Call]]:
    """Execute each query (a document and its variables) on this database, and return its statements by name."""
    database = await open_database(database_url)
    schema, calls = build_schema(), dict[str, list[Call]]()
    try:
        for name, (query, variables) in queries.items():
            calls[name] = []
            recorder = cast("Database", _Recorder(database, calls[name], is_sqlite=not database.is_shared))
            context = Context.create(recorder, _UNUSED, _UNUSED, _UNUSED, _UNUSED, _UNUSED)
            result = await schema.execute(query, variables, context, None, None, (OperationType.QUERY,))
            assert not result.errors, result.errors
    finally:
        await database.close()
    return calls


async def open_database(database_url: str) -> Database:
    if database_url.startswith("sqlite"):
        return await SQLiteDatabase.open(Path(database_url.partition(":///")[2]), clock=SystemClock())
    return await PostgreSQLDatabase.open(database_url.replace("+asyncpg", ""))


class _Recorder:
    """A read-only database that records each statement."""

    def __init__(self, database: Database, calls: list[Call], *, is_sqlite: bool) -> None:
        self._database = database
        self._calls = calls
        self._is_sqlite = is_sqlite
        self.is_typed = database.is_typed

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._database.read(
            lambda connection: work(cast("Connection", _RecordingConnection(connection, self)))
        )

    def note(self, statement: Statement, parameters: Parameters) -> None:
        if self._is_sqlite:
            self._calls.append((statement.for_sqlite.text, statement.for_sqlite.bind_by_name(parameters)))
        else:
            self._calls.append((statement.for_postgresql.text, statement.for_postgresql.bind_by_position(parameters)))


class _RecordingConnection:
    def __init__(self, connection: Connection, recorder: _Recorder) -> None:
        self._connection = connection
        self._recorder = recorder
        self.now = connection.now
        self.read_budget = connection.read_budget

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self._recorder.note(statement, parameters)
        return self._connection.fetch(statement, parameters)
