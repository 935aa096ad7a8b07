"""Inspect the tables of a database of either kind."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from tests.postgresql import database_connection


async def read_rows(database_url: str, tables: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of each table, in the order of the first column."""
    selects = {table: f"SELECT * FROM {table} ORDER BY 1" for table in tables}  # noqa: S608
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
            return {table: database.execute(select).fetchall() for table, select in selects.items()}
    async with database_connection(database_url) as connection:
        return {table: [tuple(row) for row in await connection.fetch(select)] for table, select in selects.items()}


async def count_rows(database_url: str, tables: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each table."""
    counts = {table: f"SELECT count(*) FROM {table}" for table in tables}  # noqa: S608
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
            return {table: database.execute(count).fetchone()[0] for table, count in counts.items()}
    async with database_connection(database_url) as connection:
        return {table: await connection.fetchval(count) for table, count in counts.items()}
