"""The executors that a worker has, and the runs that they execute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runyard_client.worker.messages import CancelReason, ExecutorLink, Pool, TaskDescription

MAX_CLAIM = 500
"""The largest `limit` of a claim."""


@dataclass(slots=True, eq=False)
class HeldRun:
    """A run whose lease the worker holds. Times are those of the worker's monotonic clock."""

    lease: str
    run: dict[str, Any]
    delivery: int
    executor: ExecutorSlots
    lease_seconds: float
    is_exclusive: bool
    renewed_at: float
    """When the last renewal with a response was sent."""
    renew_at: float
    """When the next renewal is due."""
    is_confirmed: bool = False
    reason: CancelReason | None = None
    """Why the run must stop."""

    @property
    def name(self) -> str:
        return str(self.run.get("name") or self.run["id"])

    @property
    def key(self) -> str:
        return str(self.run["taskKey"])

    @property
    def is_lost(self) -> bool:
        """Whether the worker must not report the run any more."""
        return self.reason in ("lease_lost", "lease_ended")


@dataclass(slots=True, eq=False)
class ExecutorSlots:
    """One executor: its runs and its free slots."""

    link: ExecutorLink
    runs: dict[str, HeldRun] = field(default_factory=dict[str, HeldRun])
    is_blocked: bool = False
    """Whether its event loop does not respond. It then gets no runs."""
    is_retiring: bool = False
    lost_slots: int = 0
    """Threads that do not stop. Their runs are among `runs`."""
    ping_number: int = 0
    is_pinged: bool = False
    """Whether the ping with this number has no response yet."""

    @property
    def free(self) -> int:
        if self.is_blocked or self.is_retiring:
            return 0
        return self.link.capacity - len(self.runs)


@dataclass(slots=True, eq=False)
class ExecutorPool:
    """The executors of one pool, and the claim for their free slots. At most one claim is in flight."""

    name: Pool
    executors: list[ExecutorSlots] = field(default_factory=list[ExecutorSlots])
    task_keys: list[str] = field(default_factory=list[str])
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a claim may have become possible."""
    claimed_slots: int = 0
    """Limit of the claim in flight, 0 without one."""
    max_claim: int = MAX_CLAIM
    """Lower after a response that was too large."""
    is_dry: bool = False
    """Whether the last exchange had fewer runs than slots: the next claim waits at the server."""
    is_exhausted: bool = False
    """Whether a worker that stops when nothing is due has found nothing since the last run ended."""

    @property
    def free(self) -> int:
        return sum(each.free for each in self.executors if each.free > 0)

    @property
    def capacity(self) -> int:
        return sum(each.link.capacity for each in self.executors)

    def find_free(self) -> ExecutorSlots | None:
        """Return the executor with most free slots, or None when there is no free slot."""
        best = max(self.executors, key=lambda each: each.free, default=None)
        return best if best is not None and best.free > 0 else None

    def shrink_claims(self, limit: int) -> bool:
        """Halve the claims after a claim with this limit had too large a response. False if it was 1 already."""
        self.max_claim = max(1, limit // 2)
        return limit > 1

    def grow_claims(self) -> None:
        """Raise the limit slowly: few of the next responses are then too large again."""
        self.max_claim = min(MAX_CLAIM, self.max_claim + 1 + self.max_claim // 8)


def select_tasks(
    descriptions: Iterable[TaskDescription], groups: Iterable[str], keys: Iterable[str], excluded: Iterable[str]
) -> dict[str, TaskDescription]:
    """Return the tasks that a worker executes, by key. Empty `groups` and `keys` do not restrict."""
    groups, keys, excluded = set(groups), set(keys), set(excluded)
    return {
        each["key"]: each
        for each in descriptions
        if (not groups or each["group"] in groups) and (not keys or each["key"] in keys) and each["key"] not in excluded
    }
