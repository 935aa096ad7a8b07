"""`python -m benchmarks`: seed a database of each kind, run the workloads on it, print a table and write it as JSON."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import uvloop

from benchmarks.population import Size
from benchmarks.report import print_database
from benchmarks.running import Options, run_database
from benchmarks.seed import seed
from benchmarks.servers import postgresql, with_name
from benchmarks.workloads import WORKLOADS
from db.postgresql.driver import asyncpg

KINDS = ("sqlite", "postgresql")
QUICK = Options(rounds=1, scale=0.0, starts=0, idle_seconds=0.1, warms_up=False)


def main() -> None:
    given = _arguments()
    workloads = [each for each in WORKLOADS if not given.workloads or each.name in given.workloads]
    options = QUICK if given.quick else Options(given.rounds, given.scale)
    databases = dict[str, object]()
    report: dict[str, object] = {"rounds": given.rounds, "python": sys.version.split()[0], "databases": databases}
    for kind in _kinds(given):
        with ExitStack() as opened:
            url = given.seeded or _seeded_database(kind, given, opened)
            found = uvloop.run(run_database(url, given.task_runs, workloads, options))
        databases[kind] = found
        print_database(kind, found)
        if given.json:
            given.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _kinds(given: argparse.Namespace) -> Sequence[str]:
    if given.seeded:
        return [KINDS[0] if given.seeded.startswith("sqlite") else KINDS[1]]
    return [given.only] if given.only else KINDS


def _seeded_database(kind: str, given: argparse.Namespace, opened: ExitStack) -> str:
    """The URL of a new database with a population."""
    url = _database_url(kind, given.database_url, opened)
    began = time.perf_counter()
    seed(url, Size(given.task_runs, given.flow_runs or max(1, given.task_runs // 100), given.flows))
    print(f"{kind}: seeded in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return url


def _database_url(kind: str, postgresql_url: str | None, opened: ExitStack) -> str:
    """The URL of a new, empty database."""
    if kind == "sqlite":
        folder = opened.enter_context(TemporaryDirectory(prefix="runyard-benchmark-"))
        return f"sqlite+aiosqlite:///{folder}/runyard.db"
    url = postgresql_url or opened.enter_context(postgresql())
    name = f"runyard_benchmark_{time.time_ns()}"
    asyncio.run(_run(url, f"CREATE DATABASE {name}"))
    opened.callback(lambda: asyncio.run(_run(url, f"DROP DATABASE {name} WITH (FORCE)")))
    return with_name(url, name).replace("postgresql://", "postgresql+asyncpg://")


async def _run(url: str, statement: str) -> None:
    raw = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await raw.execute(statement)
    finally:
        await raw.close()


def _arguments() -> argparse.Namespace:
    names = [each.name for each in WORKLOADS]
    parser = argparse.ArgumentParser(prog="just bench", description="What Runyard costs, beside the bare driver.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"left out, all: {', '.join(names)}")
    parser.add_argument("--only", choices=KINDS, help="one kind of database")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are told; the default is 3")
    parser.add_argument("--task-runs", type=int, default=20_000, help="in flow runs; a tenth more in the background")
    parser.add_argument("--flow-runs", type=int, help="left out: one for 100 task runs")
    parser.add_argument("--flows", type=int, default=10)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each workload's operations a round has")
    parser.add_argument("--database-url", help="a PostgreSQL server, as a user that may create databases")
    parser.add_argument("--seeded", metavar="URL", help="a database that benchmarks.seed has filled with --task-runs")
    parser.add_argument("--json", type=Path, help="a file to write the figures to")
    parser.add_argument("--quick", action="store_true", help="hardly any of it, to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.task_runs = 200
    if unknown := sorted(set(given.workloads) - set(names)):
        parser.error(f"there is no workload {', '.join(unknown)}; there are {', '.join(names)}")
    return given


if __name__ == "__main__":
    main()
