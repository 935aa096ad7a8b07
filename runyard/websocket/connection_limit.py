"""How many WebSockets one client may have open: the holder of a token, or an address where there are none."""

from collections import Counter


class SocketPlaces:
    """The places that all clients take."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, client: str) -> "Place | None":
        """A place of this client's; None where it has as many as it may."""
        if self._taken[client] >= self._most:
            return None
        self._taken[client] += 1
        return Place(self, client)

    def free(self, client: str) -> None:
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]


class Place:
    """The place of one socket."""

    def __init__(self, places: SocketPlaces, client: str) -> None:
        self._places = places
        self._client = client

    def move_to(self, client: str) -> bool:
        """Let it be a place of `client`, which has turned out to be at the other end; False where that has enough."""
        place = self._places.take(client)
        if place is None:
            return False
        self._places.free(self._client)
        self._client = client
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._places.free(self._client)
