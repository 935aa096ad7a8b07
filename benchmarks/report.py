"""Reports of benchmark runs: summaries, tables, and the comparison of two reports."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson


@dataclass
class Samples:
    """Measurements of one workload in milliseconds per operation, with one value of each for every round."""

    title: str
    cpu_ms: list[float] = field(default_factory=list[float])
    bare_ms: list[float] = field(default_factory=list[float])
    wall_ms: list[float] = field(default_factory=list[float])
    postgresql_ms: list[float] = field(default_factory=list[float])
    bare_postgresql_ms: list[float] = field(default_factory=list[float])


MEASURED = ("cpu_ms", "bare_ms", "wall_ms", "postgresql_ms", "bare_postgresql_ms")


def summarize(samples: Samples) -> dict[str, Any]:
    """Return the medians of the rounds, the ratio of server CPU to bare CPU, and the rounds themselves."""
    rounds: dict[str, list[float]] = {name: getattr(samples, name) for name in MEASURED}
    medians: dict[str, Any] = {name: median(values) if values else None for name, values in rounds.items()}
    cpu, bare = medians["cpu_ms"], medians["bare_ms"]
    return {"title": samples.title, **medians, "ratio": cpu / bare if cpu and bare else None, "rounds": rounds}


HEADINGS = ("server CPU", "bare CPU", "ratio", "wall", "PostgreSQL CPU", "beside bare")
COLUMNS = ("cpu_ms", "bare_ms", "ratio", "wall_ms", "postgresql_ms", "bare_postgresql_ms")


def print_database(database: str, results: Mapping[str, Any]) -> None:
    """Print the workloads of one database in milliseconds per operation, and the other measurements."""
    rows = [
        [name, workload["title"], *(_format(workload[column]) for column in COLUMNS)]
        for name, workload in results["workloads"].items()
    ]
    title = f"{database}, {results['task_runs']:,} task runs"
    if rows:
        _print_table([title, "ms per operation", *HEADINGS], rows)
    for name, value in results["figures"].items():
        print(f"  {name}: {_format(value)}")
    for skipped in results["skipped"]:
        print(f"  skipped, because the schema lacks the field that it queries: {skipped}")
    print()


def compare(old_path: Path, new_path: Path) -> None:
    """Print the workloads that two reports have in common.

    The ratios are the most reliable: both sides of a ratio were measured together.
    """
    old, new = (orjson.loads(path.read_bytes()) for path in (old_path, new_path))
    for database in sorted(old["databases"].keys() & new["databases"].keys()):
        old_results, new_results = old["databases"][database], new["databases"][database]
        if old_results["task_runs"] != new_results["task_runs"]:
            print(
                f"{database}: not comparable, {old_results['task_runs']:,} and {new_results['task_runs']:,} task runs"
            )
            continue
        rows: list[list[str]] = []
        for name in (each for each in old_results["workloads"] if each in new_results["workloads"]):
            before, after = old_results["workloads"][name], new_results["workloads"][name]
            row = [name, after["title"]]
            for column in ("ratio", "cpu_ms"):
                row += [_format(before[column]), _format(after[column]), _change(before[column], after[column])]
            rows.append(row)
        _print_table([database, "", "old ratio", "new", "change", "old CPU ms", "new", "change"], rows)
        for name in (each for each in old_results["figures"] if each in new_results["figures"]):
            before, after = old_results["figures"][name], new_results["figures"][name]
            print(f"  {name}: {_format(before)} -> {_format(after)} ({_change(before, after)})")
        print()


def _change(before: float | None, after: float | None) -> str:
    return f"{(after / before - 1) * 100:+.0f} %" if before and after else ""


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 100 else f"{value:.2f}"


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for number, row in enumerate([headings, *rows]):
        labels = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
        values = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        print("  ".join([*labels, *values]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two reports of `just bench --json`.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args()
    compare(args.old, args.new)


if __name__ == "__main__":
    main()
