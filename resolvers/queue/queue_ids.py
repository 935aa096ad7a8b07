"""Ids of task queues: opaque texts that contain the task key. A queue has no row, so its id cannot be a UUID."""

import base64

_PREFIX = "TaskQueue:"


def encode_queue_id(task_key: str) -> str:
    """Return the id of the queue of this task key. It begins with `VGFza1F1ZXVlO`, which is not the start of a UUID."""
    return base64.urlsafe_b64encode(f"{_PREFIX}{task_key}".encode()).decode().rstrip("=")


def decode_queue_id(id: str) -> str | None:
    """Return the task key of the queue with this id; None when it is not an id of `encode_queue_id`."""
    try:
        text = base64.b64decode(id + "=" * (-len(id) % 4), b"-_", validate=True).decode()
    except ValueError:
        return None
    task_key = text.removeprefix(_PREFIX)
    # Databases cannot store NUL.
    return task_key if encode_queue_id(task_key) == id and "\0" not in task_key else None
