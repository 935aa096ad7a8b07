"""The text of `runyard runs show`."""

import json
from collections.abc import Iterator
from typing import Any

from runyard.terminal.tables import format_seconds, format_state, format_table, format_time, one_line
from runyard.terminal.wait_reasons import describe_wait

LABEL_WIDTH = 11


def format_run(run: dict[str, Any]) -> Iterator[str]:
    """Yield the lines: the properties of the run, an empty line, and a table of its states."""
    for label, text in _properties(run):
        if text:
            yield f"{label:<{LABEL_WIDTH}} {text}"
    yield ""
    yield from format_table([("TIME", "STATE", "SET BY", "MESSAGE"), *map(_format_state_row, run["states"])])


def _format_state_row(state: dict[str, Any]) -> tuple[str, ...]:
    return (
        format_time(state["timestamp"]),
        format_state(state["type"], state["name"]),
        state["actor"] or "-",
        state["message"] or "",
    )


def _properties(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield label and text of each property. Those without a value have no text."""
    state = run["state"]
    yield "Id", run["id"]
    yield "Name", one_line(run["name"])
    yield "Key", one_line(run["taskKey"])
    since = format_time(state["timestamp"])
    yield "State", f"{one_line(format_state(state['type'], state['name']))} since {since}"
    yield "Message", one_line(state["message"])
    yield "Queue", _describe_queue_entry(run["queueEntry"])
    yield "Waits", describe_wait(run["queueEntry"])
    yield "Lease", _describe_lease(run["queueEntry"])
    yield "Flow run", "" if run["flowRun"] is None else f"{run['flowRunId']} {one_line(run['flowRun']['name'])}"
    yield "Tags", one_line(", ".join(run["tags"]))
    yield "Priority", str(run["priority"] or "")
    yield "Unique key", one_line(run["uniqueKey"])
    yield "Created", format_time(run["createdAt"])
    yield "Scheduled", "" if run["nextScheduledStartTime"] is None else format_time(run["nextScheduledStartTime"])
    yield "Expires", "" if run["expiresAt"] is None else format_time(run["expiresAt"])
    yield "Started", "" if run["startTime"] is None else format_time(run["startTime"])
    yield "Ended", "" if run["endTime"] is None else format_time(run["endTime"])
    yield "Run time", format_seconds(run["estimatedRunTimeSeconds"]) if run["startTime"] else ""
    yield "Run count", str(run["runCount"])
    yield "Parameters", _format_json(run["parameters"])
    yield "Metadata", _format_json(run["metadata"])
    yield "Result", _format_json(state["data"])


def _describe_queue_entry(entry: dict[str, Any] | None) -> str:
    if entry is None or entry["leaseExpiresAt"] is not None:
        return ""
    side = "retry" if entry["isRetry"] else "scheduled"
    before = f", delivered before: {entry['attempt']}" if entry["attempt"] else ""
    return f"waits on the {side} side, due at {format_time(entry['availableAt'])}{before}"


def _describe_lease(entry: dict[str, Any] | None) -> str:
    if entry is None or entry["leaseExpiresAt"] is None:
        return ""
    worker = "a worker without a name" if entry["workerName"] is None else one_line(entry["workerName"])
    return f"held by {worker} until {format_time(entry['leaseExpiresAt'])}, delivery {entry['attempt']}"


def _format_json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
