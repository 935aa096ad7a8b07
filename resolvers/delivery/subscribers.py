"""Those whom the dispatcher claims for: subscriptions, which go on, and claims of their own, which end with one answer."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from db.runtime.clock import Clock
from resolvers.delivery.claim import Delivery, Demand

LARGEST_EVENT = 256 * 1024
"""Characters in one event, roughly: many clients take a megabyte and no more."""

MOST_WAITING = 16 * 1024 * 1024
"""Characters on the way to a subscriber, roughly, above which it is given no more: it may not be reading at all."""


@dataclass(slots=True)
class Peer:
    """The other end of the connection that a subscription is served over."""

    is_lost: bool = False
    """Whether the connection ended while operations were under way: whoever is there may have died."""


class Subscriber:
    """One subscription's place at the dispatcher: what it listens to, its credit, and what is on its way to it."""

    def __init__(
        self,
        number: int,
        task_keys: Iterable[str],
        prefetch: int,
        lease_seconds: float,
        worker_name: str | None,
        peer: Peer | None = None,
    ) -> None:
        self.number = number
        self.task_keys = frozenset(task_keys)
        self.unacknowledged: dict[str, None] = {}
        """The leases in the order in which they were handed over."""
        self._prefetch = prefetch
        self._lease_seconds = lease_seconds
        self._worker_name = worker_name
        self._peer = peer or Peer()
        self._arrived: list[Delivery] = []
        self._waiting = 0
        """How many characters have arrived, roughly."""
        self.was_full = False
        """Whether it could have been given no more when it last took what had arrived."""
        self._event = asyncio.Event()
        self._is_closed = False

    @property
    def demand(self) -> Demand:
        """What it may still be given."""
        return Demand(self.number, self.task_keys, self._credit, self._lease_seconds, self._worker_name)

    @property
    def _credit(self) -> int:
        return 0 if self._waiting > MOST_WAITING else self._prefetch - len(self.unacknowledged)

    @property
    def suspect(self) -> str | None:
        """The lease of the run that its worker may have died of: the one that it had in hand, where the peer is lost.

        A worker that takes runs in their order has the first one in hand that was sent and not acknowledged.
        """
        first = next(iter(self.unacknowledged), None)
        is_sent = first not in {delivery.lease_id for delivery in self._arrived}
        return first if self._peer.is_lost and is_sent else None

    def hand(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries on the way to it."""
        self.unacknowledged |= dict.fromkeys(delivery.lease_id for delivery in deliveries)
        self._arrived.extend(deliveries)
        self._waiting += sum(map(_size_of, deliveries))
        self._event.set()

    def end_turn(self, *, is_cut_short: bool) -> None:
        """A claim that it had a part in is over; `is_cut_short` where there may have been more that is due."""

    def fail(self, error: Exception) -> None:
        """A claim that it had a part in has failed; it is tried again."""

    def close(self) -> None:
        """Let it end."""
        self._is_closed = True
        self._event.set()

    async def next(self, clock: Clock, keep_alive_seconds: float) -> list[Delivery] | None:
        """The deliveries that have arrived, one or more; none after `keep_alive_seconds`; None when the stream is over."""
        await clock.wait(self._event, clock.now() + timedelta(seconds=keep_alive_seconds))
        if self._is_closed:
            return None
        self.was_full = self._waiting > MOST_WAITING
        arrived, self._arrived = _cut_event(self._arrived)
        self._waiting -= sum(map(_size_of, arrived))
        if not self._arrived:
            self._event.clear()
        return arrived


class Claimant(Subscriber):
    """A claim by itself: it is given what one claim brings, and told when that is nothing and it waits no longer."""

    waits_no_longer = False
    _has_stood_in_line = False
    _error: Exception | None = None

    @property
    def answered(self) -> asyncio.Event:
        """Set once there is an answer."""
        return self._event

    @property
    def _credit(self) -> int:
        # Its task may not have come to the answer yet: what a second claim gave it would be given back.
        return 0 if self.answered.is_set() else self._prefetch

    def end_turn(self, *, is_cut_short: bool) -> None:
        # Those who were served while it was not stand behind it the next time: then there is nothing for it.
        if self.waits_no_longer and (not is_cut_short or self._has_stood_in_line):
            self._event.set()
        self._has_stood_in_line = True

    def fail(self, error: Exception) -> None:
        """It is no use to wait on: whoever claims asks again."""
        self._error = error
        self._event.set()

    def answer(self) -> list[Delivery]:
        """What it was given. Raises what a claim has failed with; nothing where it was told to end."""
        if self._is_closed:
            return []
        if self._error is not None and not self._arrived:
            raise self._error
        return self._arrived


def _size_of(delivery: Delivery) -> int:
    run, state = delivery.task_run, delivery.task_run.state
    size = len(run.parameters or "") + len(run.task_inputs) + len(run.tags_json) + 500
    return size if state is None else size + len(state.message or "") + len(state.data or "")


def _cut_event(arrived: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """As many deliveries, one at least, as make an event that every client can take; and the rest."""
    size = 0
    for count, delivery in enumerate(arrived):
        size += _size_of(delivery)
        if count and size > LARGEST_EVENT:
            return arrived[:count], arrived[count:]
    return arrived, []
