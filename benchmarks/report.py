"""What a run of the benchmarks found: as a table, as JSON, and beside another run's."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson


@dataclass
class Samples:
    """One workload's figures, one of each a round: milliseconds for an operation."""

    title: str
    cpu_ms: list[float] = field(default_factory=list[float])
    bare_ms: list[float] = field(default_factory=list[float])
    wall_ms: list[float] = field(default_factory=list[float])
    postgresql_ms: list[float] = field(default_factory=list[float])
    bare_postgresql_ms: list[float] = field(default_factory=list[float])


MEASURED = ("cpu_ms", "bare_ms", "wall_ms", "postgresql_ms", "bare_postgresql_ms")


def summary(samples: Samples) -> dict[str, Any]:
    """Medians of the rounds, the ratio of the first two, and the rounds themselves."""
    rounds: dict[str, list[float]] = {name: getattr(samples, name) for name in MEASURED}
    found: dict[str, Any] = {name: median(values) if values else None for name, values in rounds.items()}
    cpu, bare = found["cpu_ms"], found["bare_ms"]
    return {"title": samples.title, **found, "ratio": cpu / bare if cpu and bare else None, "rounds": rounds}


HEADINGS = ("server CPU", "bare CPU", "ratio", "wall", "PostgreSQL CPU", "beside bare")
COLUMNS = ("cpu_ms", "bare_ms", "ratio", "wall_ms", "postgresql_ms", "bare_postgresql_ms")


def print_database(database: str, found: Mapping[str, Any]) -> None:
    """The workloads of one database in milliseconds an operation, and what else was found."""
    rows = [
        [name, workload["title"], *(_shown(workload[column]) for column in COLUMNS)]
        for name, workload in found["workloads"].items()
    ]
    title = f"{database}, {found['task_runs']:,} task runs"
    if rows:
        _print_table([title, "ms an operation", *HEADINGS], rows)
    for name, value in found["figures"].items():
        print(f"  {name}: {_shown(value)}")
    for skipped in found["skipped"]:
        print(f"  skipped, since the schema has not got what it asks for: {skipped}")
    print()


def compare(old_path: Path, new_path: Path) -> None:
    """Print what two reports have in common. Ratios are what to go by: both sides of one were measured together."""
    old, new = (orjson.loads(path.read_bytes()) for path in (old_path, new_path))
    for database in sorted(old["databases"].keys() & new["databases"].keys()):
        was, now = old["databases"][database], new["databases"][database]
        if was["task_runs"] != now["task_runs"]:
            print(f"{database}: not comparable, {was['task_runs']:,} and {now['task_runs']:,} task runs")
            continue
        rows: list[list[str]] = []
        for name in (each for each in was["workloads"] if each in now["workloads"]):
            one, other = was["workloads"][name], now["workloads"][name]
            row = [name, other["title"]]
            for column in ("ratio", "cpu_ms"):
                row += [_shown(one[column]), _shown(other[column]), _change(one[column], other[column])]
            rows.append(row)
        _print_table([database, "", "ratio was", "is", "change", "CPU ms was", "is", "change"], rows)
        for name in (each for each in was["figures"] if each in now["figures"]):
            one, other = was["figures"][name], now["figures"][name]
            print(f"  {name}: {_shown(one)} -> {_shown(other)} ({_change(one, other)})")
        print()


def _change(was: float | None, now: float | None) -> str:
    return f"{(now / was - 1) * 100:+.0f} %" if was and now else ""


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 100 else f"{value:.2f}"


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in [headings, *rows]) for place in range(len(headings))]
    for number, row in enumerate([headings, *rows]):
        words = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
        figures = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        print("  ".join([*words, *figures]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two reports of `just bench --json`.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    given = parser.parse_args()
    compare(given.old, given.new)


if __name__ == "__main__":
    main()
