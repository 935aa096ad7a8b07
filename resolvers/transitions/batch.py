"""Task runs on their way into new states: decides each of a batch, and writes what came of all of them at the end."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from db.connection import Connection
from db.enums import StateType
from db.records import QueueEntryRecord, StateRecord, TaskRunRecord
from db.statements import queue, result_cache, states
from db.statements.result_cache import CacheRecord
from resolvers.orchestration.decide import Decision, decide, enter
from resolvers.orchestration.policy import Policy
from resolvers.orchestration.transition import FlowRunFacts, ProposedState, Transition
from resolvers.queue.capacity import Room
from resolvers.queue.entries import MOST_HASTENED, Placements, side_joined
from resolvers.transitions.concurrency_slots import SlotBook


@dataclass(slots=True)
class TaskRunMoves:
    """The changes of one batch. Each sees what the ones before it did to the slots and results that they share."""

    now: str
    slots: SlotBook
    cached: dict[str, StateRecord]
    room: Room | None = None
    """What may be added to the queues; None where everything finds its place."""
    placements: Placements = field(default_factory=Placements)
    moved: list[TaskRunRecord] = field(default_factory=list[TaskRunRecord])
    kept: list[CacheRecord] = field(default_factory=list[CacheRecord])

    @classmethod
    def load(
        cls, connection: Connection, runs: Iterable[TaskRunRecord], proposals: Iterable[ProposedState]
    ) -> "TaskRunMoves":
        """Load the facts that the runs share: at most three statements."""
        asked = [each.details.cache_key for each in proposals if each.type is StateType.RUNNING]
        keys = [key for key in asked if key]
        slots = SlotBook.load(connection, runs)
        return cls(connection.now, slots, result_cache.cached_states(connection, keys))

    def propose(
        self,
        policy: Policy,
        run: TaskRunRecord,
        proposed: ProposedState,
        *,
        flow_run: FlowRunFacts | None,
        entry: QueueEntryRecord | None,
        lease_id: str | None,
    ) -> tuple[Decision, StateRecord | None]:
        """Decide, and put the run into the state that comes of it: what was decided, and the new state if there is one.

        QueueFull, with nothing changed, where the queue has no room for what was proposed; rules' own states find theirs.
        """
        held_lease_id = entry.lease_id if entry and (entry.lease_expires_at or "") > self.now else None
        decision = decide(
            policy,
            Transition(
                run=run,
                proposed=proposed,
                now=self.now,
                flow_run=flow_run,
                flow_run_run_count=run.flow_run_run_count,
                limits=self.slots.facts_for(run),
                cached=self.cached.get(proposed.details.cache_key or ""),
                chance=random.random(),  # noqa: S311 - spreads retries, keeps no secret
                lease_id=lease_id,
                held_lease_id=held_lease_id,
            ),
        )
        if decision.state is None:
            if entry is not None and lease_id is not None and lease_id == held_lease_id:
                self.placements.keep(entry, self.now, waits_for_slot=decision.waits_for_slot)
            return decision, None
        if self.room is not None and (side := side_joined(run, proposed, entry)) is not None:
            self.room.join(side)
        state = self._enter(run, decision, proposed.details.transition_id)
        self.placements.follow(run, state, entry, lease_id)
        return decision, state

    def write_changes(self, connection: Connection) -> None:
        """Write all but the runs themselves, which are there or have just been made."""
        if freed := self.slots.freed_tags():
            self.placements.hasten(queue.entries_waiting_for_slots(connection, freed, MOST_HASTENED), self.now)
        # Nothing is read from here on, so that all of it can go to the database at once.
        states.insert_task_run_states(connection, [run.state for run in self.moved if run.state])
        self.slots.write(connection)
        result_cache.keep_states(connection, self.kept)
        self.placements.write(connection)

    def _enter(self, run: TaskRunRecord, decision: Decision, transition_id: str | None) -> StateRecord:
        assert decision.state is not None
        effects = decision.effects
        if effects.run_count is not None:
            run.run_count = effects.run_count
        if effects.flow_run_run_count is not None:
            run.flow_run_run_count = effects.flow_run_run_count
        state = enter(run, decision.state, self.now, transition_id=transition_id)
        self.slots.follow(run, state.type, takes_slots=bool(effects.takes_slots))
        details = decision.state.details
        if effects.keeps_result and details.cache_key:
            self.kept.append(CacheRecord(state.id, details.cache_key, details.cache_expiration, self.now))
            if details.cache_expiration is None or details.cache_expiration > self.now:
                self.cached[details.cache_key] = state
        self.moved.append(run)
        return state
