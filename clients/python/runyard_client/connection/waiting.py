"""Waits for the end of task runs: one waiter for all handles of an app, with a bounded number of long polls.

Each poll waits for up to 1,000 runs. New runs get a poll of their own while fewer than `MAX_POLLS` are open; else they are
joined with the smallest one. With more runs than fit into all polls, polls are short and take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runyard_client.errors import Refused, RequestTooLarge, ServerUnavailable, TaskDeleted
from runyard_client.transport.back_off import BackOff

if TYPE_CHECKING:
    from runyard_client.contract.operations import EndedTaskRunsEnded, EndedTaskRunsResult
    from runyard_client.transport.http import Transport

logger = logging.getLogger("runyard_client")

MAX_POLLS = 8
MAX_IDS = 1000
WAIT_SECONDS = 30.0
TURN_SECONDS = 1.0
"""Duration of a poll while other runs have none."""
RESPONSE_SECONDS = 15.0
"""Time for a response beyond the duration of the poll."""
SECONDS_PER_ID = 50e-6
"""Pause before runs that have not ended are polled again, for each of them. Bounds the cost of waiting for many runs that
end one by one: the server reads all ids of each poll."""
JOIN_SECONDS = 0.01
"""Time between two joins of new runs with a poll that is open."""


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: its final state, or an error when it cannot be known."""

    id: str
    state: dict[str, Any] | None
    error: Exception | None = None


class Watch(Protocol):
    """A caller that waits for runs."""

    def notify(self, end: End) -> None:
        """Receive the end of a run, on the background loop."""
        ...


@dataclass(eq=False, slots=True)
class _Poll:
    """A request in flight, with the ids that it waits for."""

    ids: set[str]
    seconds: float
    task: asyncio.Task[None] | None = None


class Waiter:
    """Waits for runs on the background loop. Only `watch` and `forget` may be called from other threads.

    Args:
        max_polls: number of requests that wait at the same time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        *,
        max_polls: int = MAX_POLLS,
        max_ids: int = MAX_IDS,
        wait_seconds: float = WAIT_SECONDS,
        back_off: BackOff | None = None,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._max_polls = max_polls
        self._max_ids = max_ids
        self._wait_seconds = wait_seconds
        self._back_off = back_off or BackOff()
        self._watches: dict[str, list[Watch]] = {}
        self._unpolled: dict[str, None] = {}
        self._polls: set[_Poll] = set()
        self._schedules = False
        self._next_join = 0.0
        self._resume_at = 0.0

    def watch(self, ids: Collection[str], watch: Watch) -> None:
        """Notify `watch` of the end of each of these runs, once."""
        self._loop.call_soon_threadsafe(self._add, ids, watch)

    def forget(self, ids: Collection[str], watch: Watch) -> None:
        """Notify `watch` no longer. The next poll omits runs for which no other caller waits."""
        self._loop.call_soon_threadsafe(self._remove, ids, watch)

    def set_limits(self, *, max_polls: int, max_ids: int) -> None:
        """Change the number of polls that are open at a time, and the number of runs in each."""
        self._max_polls = max_polls
        self._max_ids = max_ids

    async def close(self, error: Exception) -> None:
        """End all polls, and notify everyone who waits of an error."""
        tasks = [poll.task for poll in self._polls if poll.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for id in list(self._watches):
            self._notify(End(id, None, error))

    def _add(self, ids: Iterable[str], watch: Watch) -> None:
        for id in ids:
            watches = self._watches.get(id)
            if watches is None:
                self._watches[id] = [watch]
                self._unpolled[id] = None
            else:
                watches.append(watch)
        self._schedule_soon()

    def _remove(self, ids: Iterable[str], watch: Watch) -> None:
        for id in ids:
            watches = self._watches.get(id, [])
            if watch in watches:
                watches.remove(watch)
            if not watches and id in self._watches:
                del self._watches[id]
                self._unpolled.pop(id, None)
        for poll in [poll for poll in self._polls if poll.ids.isdisjoint(self._watches)]:
            self._cancel(poll)

    def _notify(self, end: End) -> None:
        self._unpolled.pop(end.id, None)
        for watch in self._watches.pop(end.id, ()):
            watch.notify(end)

    def _schedule_soon(self, delay: float = 0.0) -> None:
        """Open polls in the next iteration of the loop, for all runs that are added until then."""
        if delay > 0:
            self._loop.call_later(delay, self._schedule_soon)
        elif not self._schedules:
            self._schedules = True
            self._loop.call_soon(self._schedule)

    def _schedule(self) -> None:
        """Open polls for the runs that have none."""
        self._schedules = False
        if not self._unpolled:
            return
        now = self._loop.time()
        if now < self._resume_at:
            self._schedule_soon(self._resume_at - now)
            return
        if len(self._polls) >= self._max_polls:
            if now < self._next_join:
                self._schedule_soon(self._next_join - now)
                return
            self._next_join = now + JOIN_SECONDS
            self._make_room()
        while self._unpolled and len(self._polls) < self._max_polls:
            self._open(self._take_unpolled())

    def _make_room(self) -> None:
        """End the smallest polls, whose runs are then joined with the new ones.

        With more runs than fit into all polls, end those that do not take turns yet.
        """
        polls = sorted(self._polls, key=lambda poll: len(poll.ids))
        for poll in [poll for poll in polls if poll.seconds > TURN_SECONDS] if self._is_crowded() else polls:
            if len(self._unpolled) <= (self._max_polls - len(self._polls)) * self._max_ids:
                return
            self._cancel(poll)

    def _is_crowded(self) -> bool:
        return len(self._watches) > self._max_polls * self._max_ids

    def _cancel(self, poll: _Poll) -> None:
        self._polls.discard(poll)
        if poll.task is not None:
            poll.task.cancel()
        self._return(poll.ids)

    def _return(self, ids: Iterable[str]) -> None:
        """Put the runs that have not ended at the back of the queue."""
        self._unpolled.update((id, None) for id in ids if id in self._watches)

    def _take_unpolled(self) -> set[str]:
        ids = list(self._unpolled)[: self._max_ids]
        for id in ids:
            del self._unpolled[id]
        return set(ids)

    def _open(self, ids: set[str]) -> None:
        poll = _Poll(ids, min(TURN_SECONDS, self._wait_seconds) if self._is_crowded() else self._wait_seconds)
        self._polls.add(poll)
        poll.task = self._loop.create_task(self._execute(poll))

    async def _execute(self, poll: _Poll) -> None:
        pause = 0.0
        try:
            answer = await self._look(sorted(poll.ids), poll.seconds)
            self._back_off.reset()
            if answer is not None and not answer["hasMore"] and (answer["ended"] or answer["notFound"]):
                pause = len(poll.ids & self._watches.keys()) * SECONDS_PER_ID
        except ServerUnavailable as error:
            pause = self._back_off_until_resumed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must get it
            for id in poll.ids:
                self._notify(End(id, None, error))
        finally:
            self._polls.discard(poll)
        self._schedule_after(pause, poll.ids)

    def _back_off_until_resumed(self, error: ServerUnavailable) -> float:
        """Return how long to wait before the next poll, in seconds. All polls that fail together wait once."""
        now = self._loop.time()
        if now >= self._resume_at:
            logger.info("Waiting for task runs continues after a failure: %s", error)
            delay = self._back_off.next_delay()
            self._resume_at = now + (delay if error.retry_after is None else error.retry_after)
        return self._resume_at - now

    def _schedule_after(self, pause: float, ids: set[str]) -> None:
        if pause > 0:
            self._loop.call_later(pause, self._requeue, ids)
        else:
            self._requeue(ids)

    def _requeue(self, ids: set[str]) -> None:
        polled = set[str]().union(*(poll.ids for poll in self._polls))
        self._return(ids - polled)
        self._schedule_soon()

    async def _look(self, ids: Sequence[str], seconds: float) -> EndedTaskRunsResult | None:
        """Poll once, and notify those who wait for the runs that have ended.

        When one run fails the whole query, each half is queried separately, down to that run.
        """
        try:
            answer: EndedTaskRunsResult = await self._transport.execute(
                "EndedTaskRuns", {"ids": ids, "waitSeconds": seconds}, timeout=seconds + RESPONSE_SECONDS
            )
        except (Refused, RequestTooLarge) as error:
            if len(ids) == 1:
                self._notify(End(ids[0], None, error))
                return None
            middle = len(ids) // 2
            await self._look(ids[:middle], 0.0)
            await self._look(ids[middle:], 0.0)
            return None
        for run in answer["ended"]:
            self._notify(_end(run))
        for id in answer["notFound"]:
            self._notify(End(id, None, TaskDeleted(f"No task run has the id {id}. It may have been deleted.")))
        return answer


def _end(run: EndedTaskRunsEnded) -> End:
    return End(run["id"], dict(run["state"]))
