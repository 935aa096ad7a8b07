"""Executes statements with the driver alone, in a separate process: `python -m benchmarks.bare DATABASE_URL`.

Reads jobs from standard input, one JSON object on each line, and writes the CPU time of each in this process. `reads`
are statements whose rows are serialized as JSON; an empty job repeats the last reads. `writes` are transactions, each
of which is on disk before the next one begins. The first line of the output has the process id of the PostgreSQL
backend for the reads.
"""

import sqlite3
import sys
import time
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
import uvloop

from db.postgresql.driver import asyncpg, open_pool
from db.runtime.timestamps import parse_timestamp

Call = tuple[str, Any]


def _group(calls: list[Call]) -> list[tuple[str, list[Any]]]:
    """Return the statements with the rows that each is executed for: consecutive calls of one statement become one."""
    return [(text, [values for _, values in same]) for text, same in groupby(calls, key=itemgetter(0))]


class SQLite:
    """sqlite3 with the settings of the server."""

    backend: int | None = None

    def __init__(self, path: str) -> None:
        self._raw = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        pragmas = ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-4096", "synchronous=FULL", "foreign_keys=ON")
        for pragma in pragmas:
            self._raw.execute(f"PRAGMA {pragma}")

    async def convert_parameters(self, call: Call) -> Call:
        return call

    async def read(self, calls: list[Call]) -> None:
        for text, values in calls:
            orjson.dumps(self._raw.execute(text, values).fetchall())

    async def write(self, calls: list[Call]) -> None:
        self._raw.execute("BEGIN IMMEDIATE")
        for text, rows in _group(calls):
            if len(rows) == 1:
                self._raw.execute(text, rows[0])
            else:
                self._raw.executemany(text, rows)
        self._raw.execute("COMMIT")


class PostgreSQL:
    """asyncpg. Reads return its default Python types; writes pass ids and timestamps as texts, as the server does."""

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading = reading
        self._writing = writing
        self.backend: int = reading.get_server_pid()

    @classmethod
    async def connect(cls, url: str) -> "PostgreSQL":
        pool = await open_pool(url, min_size=1, max_size=1, timeout_seconds=60.0)
        return cls(await asyncpg.connect(url), await pool.acquire())

    async def read(self, calls: list[Call]) -> None:
        for text, values in calls:
            rows = await self._reading.fetch(text, *values)
            # asyncpg returns ids as a class that orjson does not support.
            orjson.dumps([tuple(row) for row in rows], default=str)

    async def write(self, calls: list[Call]) -> None:
        await self._writing.execute("BEGIN")
        for text, rows in _group(calls):
            if len(rows) == 1:
                await self._writing.execute(text, *rows[0])
            else:
                await self._writing.executemany(text, rows)
        await self._writing.execute("COMMIT")

    async def convert_parameters(self, call: Call) -> Call:
        """Return the statement with objects for the parameters that asyncpg does not accept as texts."""
        text, values = call
        types = (await self._reading.prepare(text)).get_parameters()
        return text, [
            parse_timestamp(value) if type.name == "timestamptz" and value is not None else value
            for type, value in zip(types, values, strict=True)
        ]


async def main(url: str) -> None:
    is_sqlite = url.startswith("sqlite")
    driver = SQLite(url.partition(":///")[2]) if is_sqlite else await PostgreSQL.connect(url.replace("+asyncpg", ""))
    _write_response({"backend": driver.backend})
    reads: list[Call] = []
    for line in sys.stdin.buffer:
        job = orjson.loads(line)
        if "reads" in job:
            reads = [await driver.convert_parameters(call) for call in job["reads"]]
        before = time.process_time()
        if "writes" in job:
            for calls in job["writes"]:
                await driver.write(calls)
        else:
            await driver.read(reads)
        _write_response({"cpu_ms": (time.process_time() - before) * 1000})


def _write_response(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
