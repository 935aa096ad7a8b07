"""How many runs may wait on each side of a key's queue, and who is refused beyond that.

Bounds what clients add. What rules and sweeps put back always finds its place: a failure that was reported is not lost.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from db.connection import Connection
from db.runtime.timestamps import seconds_between
from db.statements import queue_stats
from db.statements.queue_stats import Side
from resolvers.errors import QueueFull

REMEMBERED_SECONDS = 1.0
"""How long a count is good for where other servers add, too."""

MOST_SIDES = 10_000
"""How many counts are remembered."""


@dataclass(slots=True)
class _Headroom:
    """What may be added to a side without counting again."""

    left: int
    counted_at: str


@dataclass(slots=True)
class Room:
    """What one batch of changes may add to the queues."""

    bounds: "QueueBounds"
    left: Mapping[Side, int]
    argument: str
    """What a refusal names."""
    joined: Counter[Side] = field(default_factory=Counter[Side])

    def join(self, side: Side) -> None:
        """Add a run to a side that the room was asked for. QueueFull where there is none left."""
        if self.joined[side] >= self.left[side]:
            task_key, is_retry = side
            raise QueueFull(self.argument, task_key, is_retry=is_retry, most=self.bounds.most(side))
        self.joined[side] += 1
        self.bounds.use_up(side)


class QueueBounds:
    """The bounds, and what is remembered of how full the queues are: hints, by which no run is refused.

    Counting a side that is nearly full reads all of it, so it is done once for as many runs as there is room for. Where
    other servers add, too, it is half of them, and the count is good for a second.
    """

    def __init__(self, *, max_scheduled: int, max_retry: int, is_shared: bool) -> None:
        self.max_scheduled = max_scheduled
        self.max_retry = max_retry
        self._is_shared = is_shared
        self._headroom: dict[Side, _Headroom] = {}

    def most(self, side: Side) -> int:
        """How many may wait on it."""
        return self.max_retry if side[1] else self.max_scheduled

    def room(self, connection: Connection, joining: Iterable[Side], *, argument: str) -> Room:
        """The room for a batch that may add a run to each of the sides that it names, as often as it names them.

        One statement, where the batch may be more than what is known to fit; else none. Nobody is refused without it.
        """
        asked = Counter(joining)
        left: dict[Side, int] = {}
        for side, count in asked.items():
            known = self._known(side, connection.now)
            if known is not None and count <= known:
                left[side] = count
        if unknown := asked.keys() - left.keys():
            for side, count in queue_stats.count_waiting(connection, unknown).items():
                left[side] = max(0, self.most(side) - count)
                self._remember(side, left[side], connection.now)
        return Room(self, left, argument)

    def use_up(self, side: Side) -> None:
        """A run is added to the side."""
        if known := self._headroom.get(side):
            known.left -= 1

    def _known(self, side: Side, now: str) -> int | None:
        known = self._headroom.get(side)
        if known is None or (self._is_shared and abs(seconds_between(known.counted_at, now)) > REMEMBERED_SECONDS):
            return None
        return known.left

    def _remember(self, side: Side, left: int, now: str) -> None:
        _, is_retry = side
        if is_retry:
            # Rules and sweeps add to it without a word to us.
            return
        if len(self._headroom) >= MOST_SIDES:
            self._headroom.clear()
        self._headroom[side] = _Headroom(left // 2 if self._is_shared else left, now)
