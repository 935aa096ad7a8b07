"""Replaces the child processes when a source file changes. Needs the extra `reload` (watchfiles)."""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from runyard_client.errors import RunyardError
from runyard_client.worker.messages import ExecutorFailed

RELOAD_GRACE_SECONDS = 2.0
"""How long runs of a replaced process may continue before they are released."""

logger = logging.getLogger("runyard_client.worker")

Replace = Callable[[float], Awaitable[None]]
"""`Supervisor.replace`."""


class ReloadUnavailable(RunyardError):
    """The package watchfiles is not installed."""


def check_reload() -> None:
    """Raise ReloadUnavailable if watchfiles is not installed."""
    try:
        importlib.import_module("watchfiles")
    except ImportError:
        raise ReloadUnavailable("--reload needs watchfiles; install `runyard-client[reload]`.") from None


async def watch_files(folders: Iterable[str]) -> AsyncIterator[set[str]]:
    """Yield the paths of Python files below these folders that have changed, joined over a moment."""
    watchfiles: Any = importlib.import_module("watchfiles")  # optional
    async for changes in watchfiles.awatch(*folders, watch_filter=watchfiles.PythonFilter()):
        yield {path for _, path in changes}


async def reload_on_changes(changes: AsyncIterator[set[str]], replace: Iterable[Replace]) -> None:
    """Replace all executors after each change, until the iterator ends.

    A successor that cannot start, because a module has an error, leaves the old executor in place: the next change may
    repair it.
    """
    replace = list(replace)
    async for paths in changes:
        logger.info("Changed: %s", ", ".join(sorted(shorten(path) for path in paths)))
        for each in replace:
            if not await try_to_replace(each):
                break  # the others would fail in the same way


async def try_to_replace(replace: Replace) -> bool:
    """Replace one executor. Log the traceback and return False if its successor cannot start."""
    try:
        await replace(RELOAD_GRACE_SECONDS)
    except ExecutorFailed as error:
        logger.error("Reload failed, the previous code stays: %s\n%s", error, error.traceback)
        return False
    return True


def shorten(path: str) -> str:
    """Return a path relative to the current directory if it is below it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
