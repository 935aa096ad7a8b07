"""Pausing and resuming queues. Claims read which queues are paused, so both have effect on all servers at the commit."""

from collections.abc import Sequence

from db.connection import Connection, WorkAvailable
from db.statements import queue_pauses


def pause_task_queues(connection: Connection, task_keys: Sequence[str]) -> list[Exception | None]:
    """Pause the queues of these task keys: no claim that begins after the commit delivers their runs.

    Claims in flight end before the commit. Leases that are held continue. A queue that is paused already stays as it is,
    and a task key without runs can be paused.
    """
    queue_pauses.lock_out_claims(connection)
    queue_pauses.insert_paused_queues(connection, task_keys)
    return [None] * len(task_keys)


def resume_task_queues(connection: Connection, task_keys: Sequence[str]) -> list[Exception | None]:
    """Resume the queues of these task keys: their due runs are delivered at once.

    A queue that is not paused stays as it is.
    """
    queue_pauses.delete_paused_queues(connection, task_keys)
    connection.notify(WorkAvailable(key) for key in dict.fromkeys(task_keys))
    return [None] * len(task_keys)
