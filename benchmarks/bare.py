"""The same with nothing but the driver, in a process of its own: `python -m benchmarks.bare DATABASE_URL`.

Takes jobs, one JSON object a line, and answers each with what it took: the CPU of this process, and how often it was done.
`reads` are statements, whose rows it makes into JSON, `count` times or until `seconds` are over. `writes` are transactions,
each of which is on disk before the next one begins.
"""

import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uvloop

from db.driver import asyncpg, open_pool
from db.instants import moment

Call = tuple[str, Any]


class SQLite:
    """sqlite3 with the settings of the server."""

    def __init__(self, path: str) -> None:
        self._raw = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        pragmas = ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-4096", "synchronous=FULL", "foreign_keys=ON")
        for pragma in pragmas:
            self._raw.execute(f"PRAGMA {pragma}")

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

    async def with_instants(self, call: Call) -> Call:
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
    for line in sys.stdin.buffer:
        job = orjson.loads(line)
        if "reads" in job:
            calls = job["reads"]
            if isinstance(driver, PostgreSQL):
                calls = [await driver.with_instants(call) for call in calls]
            took = await _take(driver.read, [calls] * job["count"], job["seconds"])
        else:
            took = await _take(driver.write, job["writes"], float("inf"))
        sys.stdout.buffer.write(orjson.dumps(took) + b"\n")
        sys.stdout.buffer.flush()


async def _take(do: Callable[[list[Call]], Awaitable[None]], items: list[list[Call]], seconds: float) -> dict[str, Any]:
    began, before, count = time.perf_counter(), time.process_time(), 0
    for item in items:
        await do(item)
        count += 1
        if time.perf_counter() - began > seconds:
            break
    return {"count": count, "cpu_ms": (time.process_time() - before) * 1000}


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
