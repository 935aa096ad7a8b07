"""Renewals of leases: which are due, and the requests for them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from runyard_client.errors import Refused, RequestTooLarge
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered
from runyard_client.worker.coordinator.executor_pools import HeldRun
from runyard_client.worker.settings import WorkerSettings

MAX_LEASES = 1_000


@dataclass(slots=True)
class Renewal:
    """Leases that one request renews for the same time."""

    lease_seconds: float
    runs: list[HeldRun]
    sent_at: float


class Renewals:
    """Renews every lease at a third of its time, all leases that are nearly due in one request.

    `on_answer` is called with each lease that was renewed and its result.
    """

    def __init__(
        self,
        held: dict[str, HeldRun],
        settings: WorkerSettings,
        connection: Connection,
        on_answer: Callable[[HeldRun, dict[str, Any]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._held, self._settings, self._connection, self._on_answer = held, settings, connection, on_answer
        self._clock, self._chance = clock, chance
        self._wake = asyncio.Event()
        self._next_at = float("inf")

    def plan_confirmation(self, now: float, *, at_once: bool = False) -> float:
        """Return when a run that was delivered now is renewed first, and make sure that it is."""
        due = now if at_once else now + self._settings.confirm_seconds * self._jitter()
        if due < self._next_at:
            self._next_at = due
            self._wake.set()
        return due

    async def run(self) -> None:
        """Renew leases until cancelled."""
        while True:
            await self._sleep()
            for renewal in self.take_due(self._clock()):
                await self._renew(renewal)

    def take_due(self, now: float) -> list[Renewal]:
        """Return the renewals to send now, of at most 1,000 leases each, and plan the next ones."""
        due: defaultdict[float, list[HeldRun]] = defaultdict(list)
        if any(held.renew_at <= now for held in self._held.values() if not held.is_lost):
            for held in self._held.values():
                if self._is_nearly_due(held, now):
                    due[held.lease_seconds].append(held)
        renewals = [
            self._begin(lease_seconds, runs[start : start + MAX_LEASES], now)
            for lease_seconds, runs in due.items()
            for start in range(0, len(runs), MAX_LEASES)
        ]
        self._plan()
        return renewals

    def take_with_exchange(self, now: float) -> Renewal | None:
        """Return a renewal that an exchange can carry, of leases that are due soon; None if there are none."""
        if self._next_at - now > self._settings.confirm_seconds / 2:
            return None
        due = [held for held in self._held.values() if self._is_nearly_due(held, now)]
        if not due:
            self._plan()
            return None
        lease_seconds = due[0].lease_seconds
        runs = [held for held in due if held.lease_seconds == lease_seconds][:MAX_LEASES]
        renewal = self._begin(lease_seconds, runs, now)
        self._plan()
        return renewal

    def finish(self, renewal: Renewal, results: Iterable[dict[str, Any]]) -> None:
        """Apply the results of a renewal."""
        for result in results:
            held = self._held.get(result["leaseId"])
            if held is None:
                continue  # it has ended meanwhile
            if result.get("status") != "LOST":
                held.renewed_at = renewal.sent_at
                held.is_confirmed = True
            self._on_answer(held, result)

    def abandon(self, renewal: Renewal, delay: float) -> None:
        """Plan the leases of a renewal without a response again."""
        due = self._clock() + delay
        for held in renewal.runs:
            held.renew_at = min(held.renew_at, due)
        self._next_at = min(self._next_at, due)
        self._wake.set()

    async def _sleep(self) -> None:
        while (delay := self._next_at - self._clock()) > 0:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), None if delay == float("inf") else delay)
            except TimeoutError:
                return

    async def _renew(self, renewal: Renewal) -> None:
        renewal.sent_at = self._clock()
        variables = {"leaseIds": [held.lease for held in renewal.runs], "leaseSeconds": renewal.lease_seconds}
        try:
            payload = await self._connection.execute("RenewTaskRunLeases", variables)
        except Unanswered as error:
            self.abandon(renewal, error.delay)
        except (Refused, RequestTooLarge):
            self.abandon(renewal, self._connection.next_delay("RenewTaskRunLeases"))
        else:
            self.finish(renewal, payload["leases"])

    def _is_nearly_due(self, held: HeldRun, now: float) -> bool:
        if held.is_lost:
            return False
        early = held.lease_seconds / 6 if held.is_confirmed else self._settings.confirm_seconds / 2
        return held.renew_at - now <= early

    def _begin(self, lease_seconds: float, runs: list[HeldRun], now: float) -> Renewal:
        for held in runs:
            held.renew_at = now + lease_seconds / 3 * self._jitter()
        return Renewal(lease_seconds, runs, now)

    def _plan(self) -> None:
        times = (held.renew_at for held in self._held.values() if not held.is_lost)
        self._next_at = min(times, default=float("inf"))

    def _jitter(self) -> float:
        return 0.9 + 0.2 * self._chance()
