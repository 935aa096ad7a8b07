"""`runyard prune`: deletes runs that ended long ago, beside servers that go on."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta

from db.enums import StateType
from resolvers.retention import NOTHING, Pruned, Pruning, count_pruning, prune
from runyard.services import open_database
from runyard.settings import Settings

PROGRESS_SECONDS = 1.0
"""How often it is told how far the deletion has come."""


async def prune_database(
    settings: Settings,
    keep: timedelta,
    states: Sequence[StateType],
    *,
    dry_run: bool,
    tell: Callable[[str], None],
) -> None:
    """Delete the runs that ended longer ago than `keep` in one of these states; or only count them."""
    database = await open_database(settings, None)
    try:
        wanted = Pruning(database.clock.now() - keep, states)
        when = f"that ended before {wanted.before:%Y-%m-%d %H:%M:%S} UTC"
        if dry_run:
            found = await database.read(lambda connection: count_pruning(connection, wanted))
            tell(f"Would delete {_said(found)} {when}.")
            return
        total, told_at = NOTHING, time.monotonic()
        async with aclosing(prune(database, wanted)) as batches:
            async for pruned in batches:
                total += pruned
                if time.monotonic() >= told_at + PROGRESS_SECONDS:
                    told_at = time.monotonic()
                    tell(f"Deleted {_said(total)} so far ...")
        tell(f"Deleted {_said(total)} {when}.")
    finally:
        await database.close()


def _said(pruned: Pruned) -> str:
    return f"{_counted(pruned.task_runs, 'task run')} and {_counted(pruned.flow_runs, 'flow run')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
