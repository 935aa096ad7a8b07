"""Limit on the open WebSockets of each client: of a token, or of an IP address while there is no token."""

from collections import Counter


class ConnectionLimit:
    """Counts the open connections of each client."""

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._open_counts: Counter[str] = Counter()

    def acquire(self, client: str) -> "ConnectionSlot | None":
        """Return a slot for a connection of the client; None when it has reached the limit."""
        if self._open_counts[client] >= self._max_connections:
            return None
        self._open_counts[client] += 1
        return ConnectionSlot(self, client)

    def release(self, client: str) -> None:
        self._open_counts[client] -= 1
        if not self._open_counts[client]:
            del self._open_counts[client]


class ConnectionSlot:
    """The slot of one connection."""

    def __init__(self, limit: ConnectionLimit, client: str) -> None:
        self._limit = limit
        self._client = client

    def transfer_to(self, client: str) -> bool:
        """Count the connection for another client. Returns False, unchanged, when that client has reached the limit."""
        slot = self._limit.acquire(client)
        if slot is None:
            return False
        self._limit.release(self._client)
        self._client = client
        return True

    def release(self) -> None:
        """Free the slot."""
        self._limit.release(self._client)
