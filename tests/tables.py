"""Inspect the tables of a database of either kind."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import asyncpg


async def count_rows(database_url: str, tables: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each table."""
    counts = {table: f"SELECT count(*) FROM {table}" for table in tables}  # noqa: S608
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
            return {table: database.execute(count).fetchone()[0] for table, count in counts.items()}
    connection = await asyncpg.connect(database_url)
    try:
        return {table: await connection.fetchval(count) for table, count in counts.items()}
    finally:
        await connection.close()
