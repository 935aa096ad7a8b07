"""`python -m benchmarks`: seed a database of each kind, run the workloads, print the results and write them as JSON."""

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

from benchmarks.population import PopulationSize
from benchmarks.report import print_database
from benchmarks.running import Options, run_database
from benchmarks.seed import seed
from benchmarks.servers import postgresql, with_name
from benchmarks.workloads import WORKLOADS
from db.postgresql.driver import asyncpg

DATABASE_KINDS = ("sqlite", "postgresql")
QUICK = Options(rounds=1, scale=0.0, starts=0, idle_seconds=0.1, warms_up=False)


def main() -> None:
    args = _parse_arguments()
    workloads = [each for each in WORKLOADS if not args.workloads or each.name in args.workloads]
    options = QUICK if args.quick else Options(args.rounds, args.scale)
    databases = dict[str, object]()
    report: dict[str, object] = {"rounds": args.rounds, "python": sys.version.split()[0], "databases": databases}
    for kind in _kinds(args):
        with ExitStack() as stack:
            url = args.seeded or _create_seeded_database(kind, args, stack)
            results = uvloop.run(run_database(url, args.task_runs, workloads, options))
        databases[kind] = results
        print_database(kind, results)
        if args.json:
            args.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _kinds(args: argparse.Namespace) -> Sequence[str]:
    if args.seeded:
        return [DATABASE_KINDS[0] if args.seeded.startswith("sqlite") else DATABASE_KINDS[1]]
    return [args.only] if args.only else DATABASE_KINDS


def _create_seeded_database(kind: str, args: argparse.Namespace, stack: ExitStack) -> str:
    """Create a database, seed it, and return its URL."""
    url = _create_database(kind, args.database_url, stack)
    started_at = time.perf_counter()
    seed(url, PopulationSize(args.task_runs, args.flow_runs or max(1, args.task_runs // 100), args.flows))
    print(f"{kind}: seeded in {time.perf_counter() - started_at:.1f} s", file=sys.stderr)
    return url


def _create_database(kind: str, postgresql_url: str | None, stack: ExitStack) -> str:
    """Create an empty database and return its URL. Closing the stack deletes the database."""
    if kind == "sqlite":
        folder = stack.enter_context(TemporaryDirectory(prefix="runyard-benchmark-"))
        return f"sqlite+aiosqlite:///{folder}/runyard.db"
    url = postgresql_url or stack.enter_context(postgresql())
    name = f"runyard_benchmark_{time.time_ns()}"
    asyncio.run(_execute(url, f"CREATE DATABASE {name}"))
    stack.callback(lambda: asyncio.run(_execute(url, f"DROP DATABASE {name} WITH (FORCE)")))
    return with_name(url, name).replace("postgresql://", "postgresql+asyncpg://")


async def _execute(url: str, statement: str) -> None:
    raw = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await raw.execute(statement)
    finally:
        await raw.close()


def _parse_arguments() -> argparse.Namespace:
    names = [each.name for each in WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="just bench", description="Measure the cost of Runyard, compared with the bare database driver."
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"workloads to run; defaults to all: {', '.join(names)}"
    )
    parser.add_argument("--only", choices=DATABASE_KINDS, help="kind of database; defaults to both")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds, whose medians are printed; defaults to 3"
    )
    parser.add_argument(
        "--task-runs", type=int, default=20_000, help="number in flow runs; a tenth as many background runs are added"
    )
    parser.add_argument("--flow-runs", type=int, help="defaults to one for every 100 task runs")
    parser.add_argument("--flows", type=int, default=10, help="defaults to 10")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of operations in a round")
    parser.add_argument("--database-url", help="PostgreSQL server, with a user that may create databases")
    parser.add_argument("--seeded", metavar="URL", help="database that benchmarks.seed filled with --task-runs")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--quick", action="store_true", help="run a minimum of each workload, to check that it works")
    args = parser.parse_args()
    if args.quick:
        args.task_runs = 200
    if unknown := sorted(set(args.workloads) - set(names)):
        parser.error(f"unknown workload {', '.join(unknown)}; choose from {', '.join(names)}")
    return args


if __name__ == "__main__":
    main()
