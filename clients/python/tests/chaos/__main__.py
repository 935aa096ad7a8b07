"""Run a chaos test of the client, and print statistics and the violated promises.

`python -m chaos --seed 1 --seconds 300 --database postgresql`, in the folder `tests`. The same seed plans the same runs and
the same faults; their timing depends on the machine. Exits with 1 and keeps all files if a promise was violated.
"""

import asyncio
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from chaos.chaos import run_chaos
from chaos.checker import violations
from chaos.plan import FAULTS, POSTGRESQL_FAULTS, Options
from chaos.summary import format_statistics

EXAMPLES = 5
"""Number of violations printed per check."""


def main() -> int:
    parser = ArgumentParser(prog="just chaos-client", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="duration of the faults")
    parser.add_argument("--runs", type=int, help="number of runs, by default 12 a second")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=[*FAULTS, *POSTGRESQL_FAULTS],
        help="kind of faults to inject; may be repeated; by default all",
    )
    arguments = parser.parse_args()
    options = Options(
        arguments.seed,
        arguments.seconds,
        arguments.runs or int(12 * arguments.seconds),
        arguments.database,
        workers=arguments.workers,
        fault_kinds=arguments.fault,
    )
    folder = Path(mkdtemp(prefix="runyard-client-chaos-"))
    result = asyncio.run(run_chaos(options, folder))
    print(format_statistics(result))
    violated = violations(result.evidence)
    print(f"{len(violated)} violations")
    for check, count in Counter(each.partition(":")[0] for each in violated).items():
        print(f"  {check}: {count}")
        for each in [each for each in violated if each.startswith(f"{check}:")][:EXAMPLES]:
            print(f"    {each.partition(': ')[2]}")
    if violated:
        print(f"Files: {folder}")
        return 1
    rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
