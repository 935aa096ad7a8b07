"""The same with nothing but the driver, in a process of its own: `python -m benchmarks.bare DATABASE_URL`.

Takes jobs, one JSON object a line, and answers each with the CPU that it took in this process. `reads` are statements, whose
rows it makes into JSON; an empty job is the last reads again. `writes` are transactions, each of which is on disk before the
next one begins. Its first line tells the process of PostgreSQL that works for its reads.
"""

import sqlite3
import sys
import time
from typing import Any

import orjson
import uvloop

from db.postgresql.driver import asyncpg, open_pool
from db.runtime.timestamps import moment

Call = tuple[str, Any]


class SQLite:
    """sqlite3 with the settings of the server."""

    backend: int | None = None

    def __init__(self, path: str) -> None:
        self._raw = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        pragmas = ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-4096", "synchronous=FULL", "foreign_keys=ON")
        for pragma in pragmas:
            self._raw.execute(f"PRAGMA {pragma}")

    async def understood(self, call: Call) -> Call:
        return call

    async def read(self, calls: list[Call]) -> None:
        for text, values in calls:
            orjson.dumps(self._raw.execute(text, values).fetchall())

    async def write(self, calls: list[Call]) -> None:
        self._raw.execute("BEGIN IMMEDIATE")
        for text, values in calls:
            self._raw.execute(text, values)
        self._raw.execute("COMMIT")


class PostgreSQL:
    """asyncpg: reads give what it makes of each type by itself, writes take ids and instants as texts, as ours do."""

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading = reading
        self._writing = writing
        self.backend: int = reading.get_server_pid()

    @classmethod
    async def connect(cls, url: str) -> "PostgreSQL":
        pool = await open_pool(url, at_least=1, at_most=1, timeout_seconds=60.0)
        return cls(await asyncpg.connect(url), await pool.acquire())

    async def read(self, calls: list[Call]) -> None:
        for text, values in calls:
            rows = await self._reading.fetch(text, *values)
            # Its ids are of a class of its own, which orjson has to be told about.
            orjson.dumps([tuple(row) for row in rows], default=str)

    async def write(self, calls: list[Call]) -> None:
        await self._writing.execute("BEGIN")
        for text, values in calls:
            await self._writing.execute(text, *values)
        await self._writing.execute("COMMIT")

    async def understood(self, call: Call) -> Call:
        """The statement with objects where asyncpg takes no texts."""
        text, values = call
        types = (await self._reading.prepare(text)).get_parameters()
        return text, [
            moment(value) if type.name == "timestamptz" and value is not None else value
            for type, value in zip(types, values, strict=True)
        ]


async def main(url: str) -> None:
    is_sqlite = url.startswith("sqlite")
    driver = SQLite(url.partition(":///")[2]) if is_sqlite else await PostgreSQL.connect(url.replace("+asyncpg", ""))
    _say({"backend": driver.backend})
    reads: list[Call] = []
    for line in sys.stdin.buffer:
        job = orjson.loads(line)
        if "reads" in job:
            reads = [await driver.understood(call) for call in job["reads"]]
        before = time.process_time()
        if "writes" in job:
            for calls in job["writes"]:
                await driver.write(calls)
        else:
            await driver.read(reads)
        _say({"cpu_ms": (time.process_time() - before) * 1000})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
