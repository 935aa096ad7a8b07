"""Fills a new database with `benchmarks.population`: `python -m benchmarks.seed --database-url … --task-runs 20000`.

The driver alone writes all rows in one transaction, without the server. An ANALYZE follows.
"""

import argparse
import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from benchmarks.population import PopulationSize, RowBatch, population
from db import migrations, tables
from db.postgresql.driver import asyncpg
from db.records import FlowRecord, FlowRunRecord, QueueEntryRecord, StateRecord, TaskRunRecord
from db.row_mapping import record_to_row, stored_column_names
from db.runtime.timestamps import parse_timestamp

RECORD_TABLES: tuple[tuple[str, Table, type[Any]], ...] = (
    ("flows", tables.flow, FlowRecord),
    ("flow_runs", tables.flow_run, FlowRunRecord),
    ("flow_run_states", tables.flow_run_state, StateRecord),
    ("task_runs", tables.task_run, TaskRunRecord),
    ("task_run_states", tables.task_run_state, StateRecord),
    ("queue_entries", tables.queue_entry, QueueEntryRecord),
)
"""Fields of a batch, with the table and the record class of their rows."""


def seed(database_url: str, size: PopulationSize) -> None:
    """Migrate the database if needed, and fill it. The database must not contain rows."""
    address = database_url.replace("+asyncpg", "").replace("+aiosqlite", "")
    if address.startswith("sqlite:///"):
        _seed_sqlite(Path(address.removeprefix("sqlite:///")), size)
    else:
        migrations.upgrade_postgresql(address)
        asyncio.run(_seed_postgresql(address, size))


def _seed_sqlite(path: Path, size: PopulationSize) -> None:
    migrations.upgrade_sqlite(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-262144", "foreign_keys=OFF"):
            raw.execute(f"PRAGMA {pragma}")
        raw.execute("BEGIN IMMEDIATE")
        for batch in population(size):
            for name, table, record in RECORD_TABLES:
                columns = stored_column_names(record)
                placeholders = ", ".join("?" * len(columns))
                names = ", ".join(f'"{column}"' for column in columns)
                statement = f"INSERT INTO {table.name} ({names}) VALUES ({placeholders})"  # noqa: S608 - column names
                raw.executemany(statement, map(_values, getattr(batch, name)))
        raw.execute("COMMIT")
        raw.execute("ANALYZE")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _seed_postgresql(url: str, size: PopulationSize) -> None:
    raw = await asyncpg.connect(url)
    try:
        async with raw.transaction():
            for batch in _merge_batches(population(size)):
                for name, table, record in RECORD_TABLES:
                    rows = _postgresql_rows(table, record, getattr(batch, name))
                    await raw.copy_records_to_table(table.name, records=rows, columns=stored_column_names(record))
        await raw.execute("VACUUM ANALYZE")
    finally:
        await raw.close()


def _postgresql_rows(table: Table, record: type[Any], records: list[Any]) -> Iterator[list[Any]]:
    """Yield the values as asyncpg copies them, with timestamps as objects."""
    columns = enumerate(stored_column_names(record))
    timestamp_indexes = [index for index, name in columns if table.c[name].type is tables.Timestamp]
    for each in records:
        row = list(_values(each))
        for index in timestamp_indexes:
            if row[index] is not None:
                row[index] = parse_timestamp(row[index])
        yield row


def _merge_batches(batches: Iterator[RowBatch], min_task_runs: int = 20_000) -> Iterator[RowBatch]:
    """Merge batches into fewer, larger ones, because each batch costs one call for each table."""
    batch = RowBatch([], [], [], [], [], [])
    for each in batches:
        for name, _, _ in RECORD_TABLES:
            getattr(batch, name).extend(getattr(each, name))
        if len(batch.task_runs) >= min_task_runs:
            yield batch
            batch = RowBatch([], [], [], [], [], [])
    yield batch


def _values(record: Any) -> tuple[Any, ...]:
    return tuple(record_to_row(record).values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a new database with a generated week of work.")
    parser.add_argument("--database-url", required=True, help="same form as RUNYARD_DATABASE_URL")
    parser.add_argument(
        "--task-runs", type=int, default=20_000, help="number in flow runs; a tenth as many background runs are added"
    )
    parser.add_argument("--flow-runs", type=int, help="defaults to one for every 100 task runs")
    parser.add_argument("--flows", type=int, default=10, help="defaults to 10")
    parser.add_argument("--seed", type=int, default=0, help="the same seed generates the same rows; defaults to 0")
    args = parser.parse_args()
    flow_runs = args.flow_runs or max(1, args.task_runs // 100)
    started_at = time.perf_counter()
    seed(args.database_url, PopulationSize(args.task_runs, flow_runs, args.flows, args.seed))
    print(
        f"{args.task_runs:,} task runs and a tenth as many background runs in {time.perf_counter() - started_at:.1f} s"
    )


if __name__ == "__main__":
    main()
