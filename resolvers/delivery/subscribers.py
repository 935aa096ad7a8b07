"""Subscribers of the dispatcher: subscriptions, which receive many events, and single claims, which return one result."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from db.runtime.clock import Clock
from resolvers.delivery.claim import Delivery, Demand

MAX_EVENT_CHARACTERS = 256 * 1024
"""Approximate maximum of characters in one event. Many clients limit messages to one megabyte."""

MAX_UNSENT_CHARACTERS = 16 * 1024 * 1024
"""Approximate number of unsent characters above which a subscriber has no credit, because it may not be reading."""


@dataclass(slots=True)
class ClientConnection:
    """The client connection that a subscription uses."""

    is_lost: bool = False
    """Whether the connection ended while operations were running. The worker may have died."""


class Subscriber:
    """A subscription as the dispatcher sees it: its task keys, its credit and its unsent deliveries."""

    def __init__(
        self,
        number: int,
        task_keys: Iterable[str],
        prefetch: int,
        lease_seconds: float,
        worker_name: str | None,
        peer: ClientConnection | None = None,
    ) -> None:
        self.number = number
        self.task_keys = frozenset(task_keys)
        self.unacknowledged: dict[str, None] = {}
        """Ids of the unacknowledged leases, in the order in which they were enqueued."""
        self._prefetch = prefetch
        self._lease_seconds = lease_seconds
        self._worker_name = worker_name
        self._peer = peer or ClientConnection()
        self._pending: list[Delivery] = []
        self._unsent_characters = 0
        """Approximate number of characters in the pending deliveries."""
        self.was_full = False
        """Whether MAX_UNSENT_CHARACTERS was exceeded before the last event was taken."""
        self._event = asyncio.Event()
        self._is_closed = False

    @property
    def demand(self) -> Demand:
        """Task keys and credit for the next claim."""
        return Demand(self.number, self.task_keys, self._credit, self._lease_seconds, self._worker_name)

    @property
    def _credit(self) -> int:
        return 0 if self._unsent_characters > MAX_UNSENT_CHARACTERS else self._prefetch - len(self.unacknowledged)

    @property
    def suspect_lease_id(self) -> str | None:
        """Lease of the run that may have caused the loss of the worker; None when the connection was not lost.

        A worker that executes runs in order was executing the first run that was sent and not acknowledged.
        """
        first = next(iter(self.unacknowledged), None)
        is_sent = first not in {delivery.lease_id for delivery in self._pending}
        return first if self._peer.is_lost and is_sent else None

    def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries. They are pending until they are sent, and use credit until they are acknowledged."""
        self.unacknowledged |= dict.fromkeys(delivery.lease_id for delivery in deliveries)
        self._pending.extend(deliveries)
        self._unsent_characters += sum(map(_size_of, deliveries))
        self._event.set()

    def on_claim_completed(self, *, is_truncated: bool) -> None:
        """Handle the end of a claim that included this subscriber. With `is_truncated`, more runs may be due."""

    def on_claim_failed(self, error: Exception) -> None:
        """Handle the failure of a claim that included this subscriber. The dispatcher retries the claim."""

    def close(self) -> None:
        """End the iteration over deliveries."""
        self._is_closed = True
        self._event.set()

    async def next_deliveries(self, clock: Clock, keep_alive_seconds: float) -> list[Delivery] | None:
        """Wait for deliveries and return them, as many as fit into one event.

        Returns an empty list after `keep_alive_seconds`, and None when the subscriber is closed.
        """
        await clock.wait(self._event, clock.now() + timedelta(seconds=keep_alive_seconds))
        if self._is_closed:
            return None
        self.was_full = self._unsent_characters > MAX_UNSENT_CHARACTERS
        pending, self._pending = _split_event(self._pending)
        self._unsent_characters -= sum(map(_size_of, pending))
        if not self._pending:
            self._event.clear()
        return pending


class LongPollClaim(Subscriber):
    """A single claim: receives the deliveries of one claim, or none when its last attempt finds no due run."""

    is_last_attempt = False
    """Whether the next conclusive claim ends the wait even without deliveries."""
    _has_had_turn = False
    _error: Exception | None = None

    @property
    def completed(self) -> asyncio.Event:
        """Event that is set when the result is available."""
        return self._event

    @property
    def _credit(self) -> int:
        # The waiting task may not have read the result yet, and would release the deliveries of a second claim.
        return 0 if self.completed.is_set() else self._prefetch

    def on_claim_completed(self, *, is_truncated: bool) -> None:
        # After a truncated claim, the subscribers that it served move behind this one. The second claim is conclusive.
        if self.is_last_attempt and (not is_truncated or self._has_had_turn):
            self._event.set()
        self._has_had_turn = True

    def on_claim_failed(self, error: Exception) -> None:
        """End the wait with the error. The client retries the claim itself."""
        self._error = error
        self._event.set()

    def result(self) -> list[Delivery]:
        """Return the deliveries, or an empty list when closed. Raises the error of a failed claim."""
        if self._is_closed:
            return []
        if self._error is not None and not self._pending:
            raise self._error
        return self._pending


def _size_of(delivery: Delivery) -> int:
    run, state = delivery.task_run, delivery.task_run.state
    size = len(run.parameters or "") + len(run.task_inputs) + len(run.tags_json) + 500
    return size if state is None else size + len(state.message or "") + len(state.data or "")


def _split_event(pending: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Split off the deliveries of the next event, up to MAX_EVENT_CHARACTERS but at least one. Return both parts."""
    size = 0
    for count, delivery in enumerate(pending):
        size += _size_of(delivery)
        if count and size > MAX_EVENT_CHARACTERS:
            return pending[:count], pending[count:]
    return pending, []
