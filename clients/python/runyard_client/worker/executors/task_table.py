"""What the coordinator must know of the tasks of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runyard_client.worker.messages import TaskDescription

if TYPE_CHECKING:
    from runyard_client.app import Runyard


def describe_tasks(app: Runyard) -> list[TaskDescription]:
    """Return the descriptions of all tasks, in the order of their declaration."""
    return [
        {
            "key": task.key,
            "pool": task.options.pool,
            "group": task.options.group,
            "leaseSeconds": task.options.lease_seconds,
            "exclusive": task.options.exclusive,
            "grace": task.options.grace,
            "timeout": task.options.timeout,
        }
        for task in app.tasks.values()
    ]
