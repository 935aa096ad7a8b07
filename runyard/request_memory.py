"""Memory of requests that are being received: HTTP bodies and WebSocket messages.

All large ones count towards one budget until they are parsed. Without it, many clients that each send a large request
slowly could take any amount of memory.
"""

from db.runtime.memory_budget import UNCOUNTED_BYTES, MemoryReservation, SharedMemoryBudget


class RequestMemory:
    """Memory that one request holds while it is received. Up to `UNCOUNTED_BYTES` are not counted."""

    def __init__(self, budget: SharedMemoryBudget) -> None:
        self._budget = budget
        self._reservation: MemoryReservation | None = None
        self._reserved = 0

    def hold(self, size: int) -> bool:
        """Count `size` bytes from now on, instead of the previous number. Return whether they fit into the budget.

        The oldest large request may exceed the budget. The reservation shrinks only when nothing needs to be counted.
        """
        if size <= UNCOUNTED_BYTES:
            self.release()
            return True
        if self._reservation is None:
            self._reservation = MemoryReservation(self._budget, can_be_refused=True)
        additional, self._reserved = max(0, size - self._reserved), max(size, self._reserved)
        return self._reservation.reserve(additional)

    def release(self) -> None:
        """Count nothing any more: the request is parsed, or its client has disconnected."""
        if self._reservation is not None:
            self._reservation.release()
            self._reservation, self._reserved = None, 0
