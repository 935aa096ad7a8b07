"""Run a chaos test on dedicated servers, and print statistics and the violated guarantees.

`python -m tests.chaos --seed 1 --seconds 600 --runs 5000 --database postgresql`. The same seed plans the same runs and the
same faults; their timing depends on the machine. Exits with 1 and keeps the journals if a guarantee was violated.
"""

import asyncio
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from tests.chaos.chaos import run_chaos
from tests.chaos.checker import violations
from tests.chaos.plan import Options
from tests.chaos.statistics import format_statistics
from tests.connection_pooler import PGBOUNCER

EXAMPLES = 5
"""Number of violations printed per check."""


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument(
        "--pooler",
        action=BooleanOptionalAction,
        default=PGBOUNCER is not None,
        help="connect to PostgreSQL through PgBouncer; the default when it is installed",
    )
    parser.add_argument(
        "--failovers", type=int, help="number of failovers of PostgreSQL, by default one in 150 seconds"
    )
    arguments = parser.parse_args()
    folder = Path(mkdtemp(prefix="runyard-chaos-journals-"))
    result = asyncio.run(run_chaos(_options(arguments), folder))
    print(format_statistics(result))
    violated = violations(result.evidence)
    print(f"{len(violated)} violations")
    for check, count in Counter(each.partition(":")[0] for each in violated).items():
        print(f"  {check}: {count}")
        for each in [each for each in violated if each.startswith(f"{check}:")][:EXAMPLES]:
            print(f"    {each.partition(': ')[2]}")
    if violated:
        print(f"Journals: {folder}")
        return 1
    rmtree(folder)
    return 0


def _options(arguments: Namespace) -> Options:
    failovers = 0
    if arguments.database == "postgresql":
        failovers = int(arguments.seconds // 150) if arguments.failovers is None else arguments.failovers
    return Options(
        arguments.seed,
        arguments.seconds,
        arguments.runs,
        arguments.database,
        pooler=arguments.pooler and arguments.database == "postgresql",
        failovers=failovers,
        longest_run_seconds=10,
    )


if __name__ == "__main__":
    sys.exit(main())
