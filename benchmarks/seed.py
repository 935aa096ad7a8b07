"""Fills a new database with `benchmarks.population`: `python -m benchmarks.seed --database-url … --task-runs 20000`.

Everything is one transaction, written past the server by the driver alone, and analysed in the end.
"""

import argparse
import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from benchmarks.population import Part, Size, population
from db import migrations, tables
from db.postgresql.driver import asyncpg
from db.records import FlowRecord, FlowRunRecord, QueueEntryRecord, StateRecord, TaskRunRecord
from db.runtime.timestamps import moment

KINDS: tuple[tuple[str, Table, type[Any]], ...] = (
    ("flows", tables.flow, FlowRecord),
    ("flow_runs", tables.flow_run, FlowRunRecord),
    ("flow_run_states", tables.flow_run_state, StateRecord),
    ("task_runs", tables.task_run, TaskRunRecord),
    ("task_run_states", tables.task_run_state, StateRecord),
    ("queue_entries", tables.queue_entry, QueueEntryRecord),
)
"""What of a part goes into which table."""


def seed(database_url: str, size: Size) -> None:
    """Migrate the database as needed and fill it. It has to be without rows."""
    address = database_url.replace("+asyncpg", "").replace("+aiosqlite", "")
    if address.startswith("sqlite:///"):
        _seed_sqlite(Path(address.removeprefix("sqlite:///")), size)
    else:
        migrations.upgrade_postgresql(address)
        asyncio.run(_seed_postgresql(address, size))


def _seed_sqlite(path: Path, size: Size) -> None:
    migrations.upgrade_sqlite(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-262144", "foreign_keys=OFF"):
            raw.execute(f"PRAGMA {pragma}")
        raw.execute("BEGIN IMMEDIATE")
        for part in population(size):
            for name, table, record in KINDS:
                columns, values = _columns(record), _values(record)
                places = ", ".join("?" * len(columns))
                names = ", ".join(f'"{column}"' for column in columns)
                statement = f"INSERT INTO {table.name} ({names}) VALUES ({places})"  # noqa: S608 - our own names
                raw.executemany(statement, map(values, getattr(part, name)))
        raw.execute("COMMIT")
        raw.execute("ANALYZE")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _seed_postgresql(url: str, size: Size) -> None:
    raw = await asyncpg.connect(url)
    try:
        async with raw.transaction():
            for part in _gathered(population(size)):
                for name, table, record in KINDS:
                    rows = _postgresql_rows(table, record, getattr(part, name))
                    await raw.copy_records_to_table(table.name, records=rows, columns=_columns(record))
        await raw.execute("VACUUM ANALYZE")
    finally:
        await raw.close()


def _postgresql_rows(table: Table, record: type[Any], records: list[Any]) -> Iterator[list[Any]]:
    """The values as asyncpg copies them: instants as objects."""
    instants = [place for place, name in enumerate(_columns(record)) if table.c[name].type is tables.Instant]
    values = _values(record)
    for each in records:
        row = list(values(each))
        for place in instants:
            if row[place] is not None:
                row[place] = moment(row[place])
        yield row


def _gathered(parts: Iterator[Part], least: int = 20_000) -> Iterator[Part]:
    """Fewer and larger parts: each costs a call for each table."""
    gathered = Part([], [], [], [], [], [])
    for part in parts:
        for name, _, _ in KINDS:
            getattr(gathered, name).extend(getattr(part, name))
        if len(gathered.task_runs) >= least:
            yield gathered
            gathered = Part([], [], [], [], [], [])
    yield gathered


def _columns(record: type[Any]) -> list[str]:
    return [each.name.removesuffix("_json") for each in fields(record) if not each.kw_only]


def _values(record: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(each.name for each in fields(record) if not each.kw_only))


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a new database with a made-up week of work.")
    parser.add_argument("--database-url", required=True, help="as RUNYARD_DATABASE_URL")
    parser.add_argument("--task-runs", type=int, default=20_000, help="in flow runs; a tenth more in the background")
    parser.add_argument("--flow-runs", type=int, help="left out: one for 100 task runs")
    parser.add_argument("--flows", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    flow_runs = given.flow_runs or max(1, given.task_runs // 100)
    began = time.perf_counter()
    seed(given.database_url, Size(given.task_runs, flow_runs, given.flows, given.seed))
    print(f"{given.task_runs:,} task runs and a tenth more in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
