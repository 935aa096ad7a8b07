"""Which statements the server runs for a query: the texts and values that its driver gets."""

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

Answer = TypeVar("Answer")

_NOT_ASKED_FOR = cast("Any", None)
"""What queries of rows have no use for: the queue, the feed, writes, facts about the server."""

Call = tuple[str, Any]
"""The text, and its values by name (SQLite) or in order (PostgreSQL)."""


async def statements_of(database_url: str, queries: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, list[Call]]:
    """For each query, a document and its variables, the statements that answering it takes on this database."""
    database = await open_database(database_url)
    schema, calls = build_schema(), dict[str, list[Call]]()
    try:
        for name, (query, variables) in queries.items():
            calls[name] = []
            recorder = cast("Database", _Recorder(database, calls[name], is_sqlite=not database.is_shared))
            context = Context.of(recorder, _NOT_ASKED_FOR, _NOT_ASKED_FOR, _NOT_ASKED_FOR, _NOT_ASKED_FOR)
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
    """The database, for reading, with a note of each statement."""

    def __init__(self, database: Database, calls: list[Call], *, is_sqlite: bool) -> None:
        self._database = database
        self._calls = calls
        self._is_sqlite = is_sqlite
        self.is_typed = database.is_typed

    async def read(self, work: Callable[[Connection], Answer]) -> Answer:
        return await self._database.read(lambda connection: work(cast("Connection", _Noting(connection, self))))

    def note(self, statement: Statement, parameters: Parameters) -> None:
        if self._is_sqlite:
            self._calls.append((statement.for_sqlite.text, statement.for_sqlite.by_name(parameters)))
        else:
            self._calls.append((statement.for_postgresql.text, statement.for_postgresql.in_order(parameters)))


class _Noting:
    def __init__(self, connection: Connection, recorder: _Recorder) -> None:
        self._connection = connection
        self._recorder = recorder
        self.now = connection.now
        self.allowance = connection.allowance

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self._recorder.note(statement, parameters)
        return self._connection.fetch(statement, parameters)
