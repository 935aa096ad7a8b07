"""Proposing states: the rules decide, and what they decide is written once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from db import flow_runs, states, task_runs
from db.connection import Connection
from db.records import FlowRunRecord, StateRecord, TaskRunRecord
from db.task_runs import TaskRunFacts
from resolvers.errors import NotFound
from resolvers.orchestration.engine import Decision, decide, enter
from resolvers.orchestration.policy import flow_run_policy, task_run_policy
from resolvers.orchestration.transition import FlowRunFacts, OrchestrationStatus, ProposedState, Transition
from resolvers.queue.placement import Placements, holds


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state that somebody proposes for a run."""

    id: str
    proposed: ProposedState
    force: bool = False
    lease_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRunOutcome:
    """What came of a proposal for a task run."""

    status: OrchestrationStatus
    state: StateRecord | None
    reason: str | None
    delay_seconds: float | None
    created: bool
    task_run: TaskRunRecord


@dataclass(frozen=True, slots=True)
class FlowRunOutcome:
    """What came of a proposal for a flow run."""

    status: OrchestrationStatus
    state: StateRecord | None
    reason: str | None
    delay_seconds: float | None
    created: bool
    flow_run: FlowRunRecord


def set_task_run_states(connection: Connection, changes: Sequence[StateChange]) -> list[TaskRunOutcome | Exception]:
    """Orchestrate each change by itself, in order; those of one run one after the other.

    Costs a constant number of statements while no run is named twice. NotFound for a run that is not there.
    """
    results: list[TaskRunOutcome | Exception] = []
    for wave in _waves(changes):
        results += _set_task_run_states(connection, wave)
    return results


def _set_task_run_states(connection: Connection, changes: Sequence[StateChange]) -> list[TaskRunOutcome | Exception]:
    facts_by_id = task_runs.task_run_facts(connection, [_key_of(change) for change in changes])
    results: list[TaskRunOutcome | Exception] = []
    moved: list[TaskRunRecord] = []
    placements = Placements()
    for change in changes:
        facts = facts_by_id.get(change.id)
        if facts is None:
            results.append(NotFound("task run", change.id))
            continue
        run = facts.run
        if facts.earlier is not None:
            results.append(TaskRunOutcome(*_answer_again(facts.earlier, change), task_run=run))
            continue
        policy = task_run_policy(in_flow_run=run.flow_run_id is not None, forced=change.force)
        decision = decide(policy, _task_run_transition(change, facts, connection.now))
        if state := _take(run, decision, change, connection.now):
            moved.append(run)
            placements.follow(run, state, facts.queue_entry, change.lease_id)
        elif facts.queue_entry is not None and holds(facts.queue_entry, change.lease_id):
            placements.acknowledge(facts.queue_entry, connection.now)
        results.append(TaskRunOutcome(*_answer(decision, run.state, state), task_run=run))
    states.insert_task_run_states(connection, [run.state for run in moved if run.state])
    task_runs.update_task_run_progress(connection, moved)
    placements.write(connection)
    return results


def _task_run_transition(change: StateChange, facts: TaskRunFacts, now: str) -> Transition:
    flow_run = None
    if facts.run.flow_run_id is not None:
        pause = facts.flow_run_details
        flow_run = FlowRunFacts(
            facts.flow_run_state_type,
            facts.flow_run_run_count or 0,
            pause.pause_timeout if pause else None,
            pause.pause_reschedule if pause else False,
        )
    return Transition(
        run=facts.run,
        proposed=change.proposed,
        now=now,
        flow_run=flow_run,
        flow_run_run_count=facts.run.flow_run_run_count,
        lease_id=change.lease_id,
        held_lease_id=facts.queue_entry.lease_id if facts.queue_entry else None,
    )


def set_flow_run_states(connection: Connection, changes: Sequence[StateChange]) -> list[FlowRunOutcome | Exception]:
    """As `set_task_run_states`, for flow runs."""
    results: list[FlowRunOutcome | Exception] = []
    for wave in _waves(changes):
        results += _set_flow_run_states(connection, wave)
    return results


def _set_flow_run_states(connection: Connection, changes: Sequence[StateChange]) -> list[FlowRunOutcome | Exception]:
    facts_by_id = flow_runs.flow_run_facts(connection, [_key_of(change) for change in changes])
    results: list[FlowRunOutcome | Exception] = []
    moved: list[FlowRunRecord] = []
    for change in changes:
        if change.id not in facts_by_id:
            results.append(NotFound("flow run", change.id))
            continue
        run, earlier = facts_by_id[change.id]
        if earlier is not None:
            results.append(FlowRunOutcome(*_answer_again(earlier, change), flow_run=run))
            continue
        decision = decide(flow_run_policy(forced=change.force), Transition(run, change.proposed, connection.now))
        if state := _take(run, decision, change, connection.now):
            moved.append(run)
        results.append(FlowRunOutcome(*_answer(decision, run.state, state), flow_run=run))
    states.insert_flow_run_states(connection, [run.state for run in moved if run.state])
    flow_runs.update_flow_run_progress(connection, moved)
    return results


def _take(run: TaskRunRecord | FlowRunRecord, decision: Decision, change: StateChange, now: str) -> StateRecord | None:
    """Put the run into the decided state; None where it keeps the one it has."""
    if decision.state is None:
        return None
    if decision.run_count is not None:
        run.run_count = decision.run_count
    return enter(run, decision.state, now, transition_id=change.proposed.details.transition_id)


Answer = tuple[OrchestrationStatus, StateRecord | None, str | None, float | None, bool]
"""An outcome without its run."""


def _answer(decision: Decision, present: StateRecord | None, written: StateRecord | None) -> Answer:
    return decision.status, present, decision.reason, decision.delay_seconds, written is not None


def _answer_again(earlier: StateRecord, change: StateChange) -> Answer:
    """The answer to a transition that has already been made: the state that it made. Nothing is written."""
    if earlier.type is change.proposed.type:
        return OrchestrationStatus.ACCEPT, earlier, None, None, False
    reason = f"This transition was made before, and made the run {earlier.name}."
    return OrchestrationStatus.REJECT, earlier, reason, None, False


def _key_of(change: StateChange) -> tuple[str, str | None]:
    return change.id, change.proposed.details.transition_id


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Change = TypeVar("Change", bound=_Named)


def _waves(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in their order, cut so that no part names a run twice."""
    start = 0
    seen: set[str] = set()
    for place, change in enumerate(changes):
        if change.id in seen:
            yield changes[start:place]
            start, seen = place, set[str]()
        seen.add(change.id)
    yield changes[start:]
