"""Lists of task runs: reads them page by page, and formats them as a table."""

from collections.abc import Sequence
from typing import Any

from runyard.terminal.client import Client
from runyard.terminal.tables import format_seconds, format_state, format_time

PAGE_SIZE = 500


def read_runs(client: Client, filter: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return at most `limit` matching task runs, newest first, and whether more match."""
    runs: list[dict[str, Any]] = []
    after = None
    while True:
        first = min(PAGE_SIZE, limit - len(runs))
        page = client.execute("FindTaskRuns", filter=filter, first=first, after=after)
        runs += page["nodes"]
        has_more, after = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]
        if not has_more or len(runs) >= limit:
            return runs, has_more


def format_runs(runs: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a table, with a header."""
    header = ("ID", "STATE", "SINCE", "KEY", "NAME", "RUN TIME", "TAGS", "MESSAGE")
    return [header, *map(_format_run, runs)]


def _format_run(run: dict[str, Any]) -> tuple[str, ...]:
    return (
        run["id"],
        format_state(run["stateType"], run["stateName"]),
        format_time(run["state"]["timestamp"]),
        run["taskKey"],
        run["name"],
        format_seconds(run["estimatedRunTimeSeconds"]) if run["startTime"] else "-",
        ",".join(run["tags"]),
        run["state"]["message"] or "",
    )
