"""Attributes of websockets that its documentation does not describe."""

from typing import Any

from websockets.server import ServerProtocol


def count_unfinished_bytes(connection: ServerProtocol) -> int:
    """Return how many bytes of the message that is arriving are in memory.

    websockets 17.4: `reader.buffer` contains the current frame, and `current_size` is the size of the previous frames of
    the same message. Without these attributes, the result is 0 and messages are not counted in the memory budget.
    tests/api/websocket/test_large_messages.py.
    """
    reader: Any = getattr(connection, "reader", None)
    return len(getattr(reader, "buffer", b"")) + (getattr(connection, "current_size", None) or 0)
