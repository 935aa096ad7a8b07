"""Exclusive runs: they stop when their lease may have ended, although the server cannot be asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from runyard_client.worker.coordinator.executor_pools import HeldRun
from runyard_client.worker.messages import CancelReason

logger = logging.getLogger("runyard_client.worker")

UNCONFIRMED_SECONDS = 30.0
"""How long the lease of a started run lasts that nothing has confirmed (RUNYARD_ACKNOWLEDGE_SECONDS of the server)."""


class ExclusiveRuns:
    """Stops exclusive runs at the time from which another worker may execute them.

    The time is that of the last renewal with a response, counted from when it was sent.
    """

    def __init__(
        self,
        held: dict[str, HeldRun],
        cancel: Callable[[HeldRun, CancelReason], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held, self._cancel, self._clock = held, cancel, clock

    def watch(self, held: HeldRun) -> None:
        """Stop this run in time."""
        delay = max(0.0, lease_end(held) - self._clock())
        asyncio.get_running_loop().call_later(delay, self.check, held)

    def check(self, held: HeldRun) -> None:
        """Stop the run if its lease may have ended, or look again when it may."""
        if self._held.get(held.lease) is not held or held.is_lost:
            return
        if self._clock() < lease_end(held):
            self.watch(held)
            return
        logger.warning("%s (%s): its renewals have no response; its work is stopped.", held.name, held.key)
        self._cancel(held, "lease_ended")


def lease_end(held: HeldRun) -> float:
    """Return the time from which another worker may execute the run."""
    seconds = held.lease_seconds if held.is_confirmed else min(held.lease_seconds, UNCONFIRMED_SECONDS)
    return held.renewed_at + seconds
