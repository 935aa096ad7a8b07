"""Subscribers of the dispatcher: subscriptions, which receive many events, and single claims, which return one result."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from db.runtime.clock import Clock
from db.statements.workers import WorkerConnection
from resolvers.actor import request_actor
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
        *,
        starts: bool = False,
    ) -> None:
        """`starts`: whether claims start the runs. Each run then uses credit until its lease has ended."""
        self.number = number
        self.task_keys = frozenset(task_keys)
        self.unacknowledged: dict[str, None] = {}
        """Ids of the unacknowledged leases, in the order in which they were enqueued."""
        self._begun: set[str] = set()
        """Ids of the acknowledged leases that use credit, because their runs have been started and have not ended."""
        self._ended: set[str] = set()
        """Ids of unacknowledged leases that have ended: they use credit until the worker names them."""
        self._starts = starts
        self._prefetch = prefetch
        self._lease_seconds = lease_seconds
        self._worker_name = worker_name
        self._actor = request_actor.get()
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
        return Demand(
            self.number,
            self.task_keys,
            self._credit,
            self._lease_seconds,
            self._worker_name,
            starts=self._starts,
            actor=self._actor,
        )

    @property
    def worker(self) -> WorkerConnection:
        """Name and task keys of the worker."""
        return WorkerConnection(self._worker_name, self.task_keys)

    @property
    def _credit(self) -> int:
        if self._unsent_characters > MAX_UNSENT_CHARACTERS:
            return 0
        return self._prefetch - len(self.unacknowledged) - len(self._begun)

    @property
    def leases(self) -> list[str]:
        """Ids of all leases that use credit."""
        return [*self.unacknowledged, *self._begun]

    def settle_lease(self, lease_id: str) -> bool:
        """Handle that a lease was acknowledged or has ended. Return whether it uses no credit any longer."""
        if lease_id in self.unacknowledged:
            del self.unacknowledged[lease_id]
            if self._starts and lease_id not in self._ended:
                self._begun.add(lease_id)
            self._ended.discard(lease_id)
        return lease_id not in self._begun

    def end_lease(self, lease_id: str) -> bool:
        """Handle that a lease has ended. Return whether it uses no credit any longer.

        An unacknowledged lease uses credit until it is settled, because the worker may be too slow for more.
        """
        self._begun.discard(lease_id)
        if lease_id in self.unacknowledged:
            if self._starts:
                self._ended.add(lease_id)
            return False
        return True

    @property
    def suspect_lease_ids(self) -> list[str]:
        """Leases of the runs that may have caused the loss of the worker; none when the connection was not lost.

        A worker that executes runs in order was executing the first run that was sent and not acknowledged. With `starts`,
        it may have been executing every such run.
        """
        if not self._peer.is_lost:
            return []
        unsent = {delivery.lease_id for delivery in self._pending}
        suspects = [lease_id for lease_id in self.unacknowledged if lease_id not in unsent]
        # Deliveries are sent in their order.
        return suspects if self._starts else suspects[:1]

    def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries. They are pending until they are sent, and use credit until they are acknowledged."""
        self.unacknowledged |= dict.fromkeys(delivery.lease_id for delivery in deliveries)
        self._pending.extend(deliveries)
        self._unsent_characters += sum(map(_size_of, deliveries))
        self._event.set()

    def on_claim_completed(self, *, is_truncated: bool, has_more: bool = False) -> None:
        """Handle the end of a claim that included this subscriber. With `is_truncated`, more runs may be due.

        With `has_more`, more runs may be due for this subscriber, which the claim has not read.
        """

    def on_nothing_due(self) -> None:
        """Handle that no run of these task keys is due: no claim is needed."""

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
        await clock.wait(self._event, seconds=keep_alive_seconds)
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

    def on_claim_completed(self, *, is_truncated: bool, has_more: bool = False) -> None:
        # After a truncated claim, the subscribers that it served move behind this one. The second claim is conclusive.
        if self.is_last_attempt and not has_more and (not is_truncated or self._has_had_turn):
            self._event.set()
        self._has_had_turn = True

    def on_nothing_due(self) -> None:
        """End the wait without deliveries if this is the last attempt."""
        if self.is_last_attempt:
            self._event.set()

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
    size = len(run.parameters or "") + len(run.task_inputs) + len(run.tags_json) + len(run.metadata or "") + 500
    return size if state is None else size + len(state.message or "") + len(state.data or "")


def _split_event(pending: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Split off the deliveries of the next event, up to MAX_EVENT_CHARACTERS but at least one. Return both parts."""
    size = 0
    for count, delivery in enumerate(pending):
        size += _size_of(delivery)
        if count and size > MAX_EVENT_CHARACTERS:
            return pending[:count], pending[count:]
    return pending, []
