"""Changes all task runs that match a filter, in batches, and reports how many were changed."""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from db.enums import TERMINAL, StateType
from runyard.terminal.client import Client, RequestFailed
from runyard.terminal.tables import format_table, pluralize

BATCH_SIZE = 1000
"""Most task runs of one request. The server accepts no more."""

SHOWN_REJECTIONS = 20


@dataclass(frozen=True, slots=True)
class Verb:
    """A mutation that changes the task runs that match a filter."""

    operation: str
    name: str
    """Imperative, as in "Cancel 3 task runs?"."""
    participle: str
    states: frozenset[StateType]
    """The types of state in which runs are examined. All other runs are ignored."""


CANCEL = Verb("CancelTaskRuns", "Cancel", "cancelled", frozenset(StateType) - TERMINAL)
RETRY = Verb("RetryTaskRuns", "Retry", "retried", TERMINAL - {StateType.COMPLETED})


@dataclass(slots=True)
class Totals:
    """Sums over the batches of one command."""

    matched: int = 0
    changed: int = 0
    rejections: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def as_dict(self, *, dry_run: bool) -> dict[str, Any]:
        """Return the sums as the command prints them as JSON."""
        rejections = [
            {"taskRunId": each["taskRunId"], "status": each["status"], "reason": each["reason"]}
            for each in self.rejections
        ]
        counts = {"matched": self.matched, "changed": self.changed, "rejected": len(self.rejections)}
        return {"dryRun": dry_run, **counts, "rejections": rejections}


def count_examined(client: Client, verb: Verb, filter: dict[str, Any], limit: int | None) -> int:
    """Return how many task runs the verb would examine now."""
    applicable = {"state": {"type": {"in": sorted(verb.states)}}}
    count: int = client.execute("CountTaskRuns", filter={"and": [filter, applicable]})
    return count if limit is None else min(count, limit)


def change_runs(
    client: Client,
    verb: Verb,
    filter: dict[str, Any],
    limit: int | None,
    advance: Callable[[int], object],
    **arguments: Any,
) -> Totals:
    """Change matching runs, oldest first, at most `limit`. `advance` gets the size of each batch when it is done.

    Raises RequestFailed when a batch fails. The batches before it are not undone.
    """
    totals, after = Totals(), None
    while limit is None or totals.matched < limit:
        size = BATCH_SIZE if limit is None else min(BATCH_SIZE, limit - totals.matched)
        try:
            batch = client.execute(verb.operation, filter=filter, limit=size, after=after, **arguments)
        except RequestFailed as error:
            if not totals.matched:
                raise
            done = f"{pluralize(totals.matched, 'task run')} had been examined. Run the command again to continue."
            raise RequestFailed(f"{error} {done}") from None
        totals.matched += batch["matched"]
        totals.changed += batch["changed"]
        totals.rejections += batch["rejections"]
        advance(batch["matched"])
        after = batch["endCursor"]
        if not batch["hasMore"]:
            break
    return totals


@contextmanager
def progress_bar(description: str, total: int) -> Generator[Callable[[int], object]]:
    """Show a progress bar on a terminal while the block runs. Yields a function that advances it."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def format_totals(totals: Totals, verb: Verb, *, dry_run: bool) -> list[str]:
    """Return the sums as lines, followed by the first rejections."""
    prefix = "Would have " if dry_run else ""
    counts = f"{verb.participle} {totals.changed:,} of {pluralize(totals.matched, 'task run')}"
    lines = [f"{prefix}{counts}." if dry_run else f"{counts[0].upper()}{counts[1:]}."]
    return lines + _format_rejections(totals.rejections)


def _format_rejections(rejections: Sequence[dict[str, Any]]) -> list[str]:
    if not rejections:
        return []
    rows = [("REJECTED", "REASON"), *((each["taskRunId"], each["reason"]) for each in rejections[:SHOWN_REJECTIONS])]
    hidden = len(rejections) - SHOWN_REJECTIONS
    return ["", *format_table(rows), *([f"... and {hidden:,} more"] if hidden > 0 else [])]
