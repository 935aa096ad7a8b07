"""`runyard prune`: deletes runs that ended long ago, while servers keep running."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta

from db.enums import StateType
from resolvers.retention import NOTHING_PRUNED, PruneRequest, PruneResult, count_prunable, prune
from runyard.services import open_database
from runyard.settings import Settings

PROGRESS_SECONDS = 1.0
"""Interval of progress reports."""


async def prune_database(
    settings: Settings,
    min_age: timedelta,
    states: Sequence[StateType],
    *,
    dry_run: bool,
    report: Callable[[str], None],
) -> None:
    """Delete runs that ended longer ago than `min_age` in one of the states. With `dry_run`, only count them."""
    database = await open_database(settings)
    try:
        prune_request = PruneRequest(database.clock.now() - min_age, states)
        when = f"that ended before {prune_request.before:%Y-%m-%d %H:%M:%S} UTC"
        if dry_run:
            found = await database.read(lambda connection: count_prunable(connection, prune_request))
            report(f"Would delete {_format_counts(found)} {when}.")
            return
        total, reported_at = NOTHING_PRUNED, time.monotonic()
        async with aclosing(prune(database, prune_request)) as batches:
            async for pruned in batches:
                total += pruned
                if time.monotonic() >= reported_at + PROGRESS_SECONDS:
                    reported_at = time.monotonic()
                    report(f"Deleted {_format_counts(total)} so far ...")
        report(f"Deleted {_format_counts(total)} {when}.")
    finally:
        await database.close()


def _format_counts(pruned: PruneResult) -> str:
    return f"{_pluralize(pruned.task_runs, 'task run')} and {_pluralize(pruned.flow_runs, 'flow run')}"


def _pluralize(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
