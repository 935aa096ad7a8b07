"""`python -m benchmarks`: measure the client beside other systems, print tables, and write the figures as JSON."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.marks import IDLE
from benchmarks.measuring import IdleWorker, Ledgers, Measures, Options, measure, run_worker
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import print_marks, print_systems
from benchmarks.systems import SYSTEMS, Workbench

CACHE = Path(tempfile.gettempdir()) / "runyard-client-benchmarks"
QUICK = Options(runs=200, single_runs=50, paced_runs=30, results=5)


def main() -> int:
    arguments = _parse_arguments()
    began = time.monotonic()
    names: Sequence[str] = arguments.systems or list(SYSTEMS)
    titles, results, skipped = dict[str, str](), dict[str, Measures](), dict[str, str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runyard-benchmark-")))
        arguments.environments.mkdir(parents=True, exist_ok=True)
        workbench = Workbench(stack, folder, arguments.environments)
        idle = None if arguments.idle_seconds == 0 else _watch_idle_worker(workbench, stack)
        for name in names:
            try:
                titles[name], results[name] = _measure(workbench, name, QUICK if arguments.quick else Options())
            except BenchmarkFailed as error:
                skipped[name] = str(error)
        if idle is not None:
            results[IDLE] = idle.measure(arguments.idle_seconds)
    print_systems(titles, results)
    print_marks(results)
    for name, reason in skipped.items():
        print(f"Not measured: {name}, because {reason}")
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.json:
        report = {"systems": titles, "results": results, "skipped": skipped}
        arguments.json.write_text(json.dumps(report, indent=2))
    return 1 if skipped else 0


def _measure(workbench: Workbench, name: str, options: Options) -> tuple[str, Measures]:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    with SYSTEMS[name](workbench) as system:
        return system.name, measure(system, workbench.new_folder(name), options)


def _watch_idle_worker(workbench: Workbench, stack: ExitStack) -> IdleWorker | None:
    """Start a worker without work, which is watched until the stack is closed."""
    try:
        system = stack.enter_context(next(iter(SYSTEMS.values()))(workbench))
        folder = workbench.new_folder(IDLE)
        return IdleWorker(system, stack.enter_context(run_worker(system, Ledgers(folder), folder)))
    except BenchmarkFailed as error:
        print(f"Not measured: the idle worker, because {error}", file=sys.stderr)
        return None


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just bench-client", description=__doc__)
    parser.add_argument(
        "systems", nargs="*", metavar="SYSTEM", help=f"systems to measure; defaults to all: {', '.join(SYSTEMS)}"
    )
    parser.add_argument(
        "--environments", type=Path, default=CACHE, help=f"folder for the installed packages; defaults to {CACHE}"
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=65.0, help="minimum time to watch an idle worker; 0 skips it"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--quick", action="store_true", help="run a minimum, to check that the benchmark works")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.systems) - set(SYSTEMS)):
        parser.error(f"unknown system {', '.join(unknown)}; choose from {', '.join(SYSTEMS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
