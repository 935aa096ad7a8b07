"""Prints the results as tables."""

from collections.abc import Mapping, Sequence

from benchmarks.marks import MARKS
from benchmarks.measuring import Measures

COLUMNS: Sequence[tuple[str, Sequence[str]]] = (
    ("burst, runs/s", ("burst_per_second",)),
    ("CPU ms a run: worker", ("burst_parent_ms",)),
    ("children", ("burst_children_ms",)),
    ("server", ("burst_server_ms",)),
    ("database", ("burst_database_ms",)),
    ("enqueue: client", ("enqueue_client_ms",)),
    ("server", ("enqueue_server_ms",)),
    ("database", ("enqueue_database_ms",)),
    ("many: client", ("enqueue_many_client_ms",)),
    ("server", ("enqueue_many_server_ms",)),
    ("database", ("enqueue_many_database_ms",)),
    ("paced p50", ("paced_p50_ms",)),
    ("p95 ms", ("paced_p95_ms",)),
    ("result p50 ms", ("result_p50_ms",)),
    ("import ms", ("import_ms",)),
    ("worker MiB", ("parent_mib",)),
    ("child", ("child_mib",)),
)


def print_systems(titles: Mapping[str, str], results: Mapping[str, Measures]) -> None:
    """Print one column per system and one row per figure."""
    measured = [name for name in titles if name in results]
    rows = [[heading, *(_format(results[name].get(figures[0])) for name in measured)] for heading, figures in COLUMNS]
    print_table(["", *measured], rows)
    for name in measured:
        print(f"  {name}: {titles[name]}")
    print()


def print_marks(results: Mapping[str, Measures]) -> None:
    """Print each goal with the figure of this run."""
    rows: list[list[str]] = []
    for mark in MARKS:
        value = mark.value_of(results)
        verdict = "" if value is None else "reached" if value <= mark.goal else "MISSED"
        rows.append([mark.title, f"<= {_format(mark.goal)}", _format(value), verdict])
    print_table(["mark", "goal", "measured", ""], rows)


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for number, row in enumerate([headings, *rows]):
        values = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *values]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print()
