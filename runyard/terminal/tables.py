"""Tables, times and durations as text."""

import json
import shutil
import sys
from collections.abc import Sequence

import typer


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns. The first row is the header."""
    rows = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the rows as a table. A terminal gets lines of at most its width; a file or pipe gets all of each line."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in format_table(rows):
        typer.echo(line if width is None or len(line) <= width else f"{line[: width - 1]}…")


def print_json(value: object) -> None:
    """Print a value as one JSON document of several lines."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def format_time(timestamp: str | None) -> str:
    """Return a timestamp of the API to the second, in UTC; `-` for None."""
    return "-" if timestamp is None else f"{timestamp[:10]} {timestamp[11:19]}Z"


def format_seconds(seconds: float | None) -> str:
    """Return a duration as text: `0.25 s`, `12.5 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def format_state(type: str, name: str) -> str:
    """Return a state's type, followed by its name when that is more specific: `SCHEDULED (AwaitingRetry)`."""
    return type if name == type.capitalize() else f"{type} ({name})"


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun: `1 task run`, `2,000 task runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def one_line(text: str | None) -> str:
    """Return a text on one line, without characters that control a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in text or "").split())
