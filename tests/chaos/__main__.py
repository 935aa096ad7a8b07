"""Lets chaos loose on servers of its own, and tells what it did and whether a promise was broken.

`python -m tests.chaos --seed 1 --seconds 120 --runs 5000 --database postgresql`. The same seed plans the same runs and the
same faults; what comes of them depends on the machine. Exits with 1 where a promise was broken, and keeps the journals.
"""

import asyncio
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from tests.chaos.chaos import unleash
from tests.chaos.checker import violations
from tests.chaos.plan import Options
from tests.chaos.statistics import figures

EXAMPLES = 5
"""How many of each kind of violation are shown."""


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    asked = parser.parse_args()
    folder = Path(mkdtemp(prefix="runyard-chaos-journals-"))
    outcome = asyncio.run(unleash(Options(asked.seed, asked.seconds, asked.runs, asked.database), folder))
    print(figures(outcome))
    broken = violations(outcome.evidence)
    print(f"{len(broken)} promises broken")
    for check, count in Counter(each.partition(":")[0] for each in broken).items():
        print(f"  {check}: {count}")
        for each in [each for each in broken if each.startswith(f"{check}:")][:EXAMPLES]:
            print(f"    {each.partition(': ')[2]}")
    if broken:
        print(f"The journals are in {folder}.")
        return 1
    rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
