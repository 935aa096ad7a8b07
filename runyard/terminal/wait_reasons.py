"""Why a run in a queue is not delivered yet, as text."""

from typing import Any

from runyard.terminal.tables import format_time, one_line


def describe_wait(entry: dict[str, Any] | None) -> str:
    """Return why the run waits; an empty text when it does not wait in a queue."""
    if entry is None or entry["waitReason"] is None:
        return ""
    at, key = format_time(entry["availableAt"]), one_line(entry["taskKey"])
    texts = {
        "QUEUE_PAUSED": f"the queue of {key} is paused: `runyard queues resume {key}`",
        "RETRY_DELAY": f"it is retried at {at}",
        "NOT_DUE": f"it is due at {at}",
        "NO_SLOT": f"no slot of the concurrency limit on the tag {one_line(entry['waitsForTag'])} is free",
        "NO_WORKER": f"no worker receives runs of {key}",
        "IN_QUEUE": "other runs of the queue are delivered before",
    }
    reason = entry["waitReason"]
    return f"{reason}: {texts[reason]}" if reason in texts else reason
