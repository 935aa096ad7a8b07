"""Proposing states: the rules decide, and what they decide is written once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from db.connection import Connection, LeaseSettled
from db.enums import StateType
from db.records import FlowRunRecord, StateDetails, StateRecord, TaskRunRecord, to_json
from db.statements import flow_runs, states, task_runs
from db.statements.task_runs import TaskRunFacts
from resolvers.errors import NotFound, QueueFull
from resolvers.orchestration.decide import Decision, decide, enter
from resolvers.orchestration.policy import flow_run_policy, task_run_policy
from resolvers.orchestration.transition import FlowRunFacts, OrchestrationStatus, ProposedState, Transition
from resolvers.queue.capacity import QueueBounds
from resolvers.queue.entries import holds, side_joined
from resolvers.transitions.batch import TaskRunMoves


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


def set_task_run_states(
    connection: Connection, changes: Sequence[StateChange], bounds: QueueBounds | None = None
) -> list[TaskRunOutcome | Exception]:
    """Orchestrate each change by itself, in order; those of one run one after the other.

    Costs a constant number of statements while no run is named twice. NotFound for a run that is not there; QueueFull
    where a queue would go beyond its bounds.
    """
    waves = list(_waves(changes))
    if len(waves) > 1:
        # Each locks its own, but locks are to be taken in one order by all of them.
        task_runs.lock_task_runs(connection, [change.id for change in changes])
    return [result for wave in waves for result in _set_task_run_states(connection, wave, bounds)]


def _set_task_run_states(
    connection: Connection, changes: Sequence[StateChange], bounds: QueueBounds | None
) -> list[TaskRunOutcome | Exception]:
    facts_by_id = task_runs.task_run_facts(connection, [_key_of(change) for change in changes])
    runs = [facts.run for facts in facts_by_id.values()]
    moves = TaskRunMoves.load(connection, runs, [change.proposed for change in changes])
    if bounds is not None:
        sides = [
            side_joined(facts.run, change.proposed, facts.queue_entry)
            for change in changes
            if (facts := facts_by_id.get(change.id))
        ]
        moves.room = bounds.room(connection, filter(None, sides), argument="state")
    results: list[TaskRunOutcome | Exception] = []
    for change in changes:
        facts = facts_by_id.get(change.id)
        if facts is None:
            results.append(NotFound("task run", change.id))
        elif facts.earlier is not None and not _begins_under_lost_lease(facts.earlier, change, facts, connection.now):
            results.append(TaskRunOutcome(*_answer_again(facts.earlier, change), task_run=facts.run))
        else:
            try:
                decision, state = moves.propose(
                    task_run_policy(in_flow_run=facts.run.flow_run_id is not None, forced=change.force),
                    facts.run,
                    change.proposed,
                    flow_run=_flow_run_facts(facts),
                    entry=facts.queue_entry,
                    lease_id=change.lease_id,
                )
            except QueueFull as refusal:
                results.append(refusal)
                continue
            results.append(TaskRunOutcome(*_answer(decision, facts.run.state, state), task_run=facts.run))
    moves.write_changes(connection)
    task_runs.update_task_run_progress(connection, moves.moved)
    # Whoever names a lease has seen the delivery, even where the lease is lost: the credit for it is free again.
    connection.announce(LeaseSettled(change.lease_id) for change in changes if change.lease_id is not None)
    return results


def _begins_under_lost_lease(earlier: StateRecord, change: StateChange, facts: TaskRunFacts, now: str) -> bool:
    """Whether a worker that repeats this transition would go on with a run that somebody else may have by now.

    What ended its work, for good or until a retry, has ended the lease, too: that report may be repeated.
    """
    if change.lease_id is None or earlier.type not in (StateType.PENDING, StateType.RUNNING):
        return False
    entry = facts.queue_entry
    return not holds(entry, change.lease_id) or entry is None or (entry.lease_expires_at or "") <= now


def _flow_run_facts(facts: TaskRunFacts) -> FlowRunFacts | None:
    if facts.run.flow_run_id is None:
        return None
    pause = facts.flow_run_details or StateDetails()
    return FlowRunFacts(
        facts.flow_run_state_type, facts.flow_run_run_count or 0, pause.pause_timeout, pause.pause_reschedule
    )


def set_flow_run_states(connection: Connection, changes: Sequence[StateChange]) -> list[FlowRunOutcome | Exception]:
    """As `set_task_run_states`, for flow runs."""
    waves = list(_waves(changes))
    if len(waves) > 1:
        flow_runs.lock_flow_runs(connection, [change.id for change in changes])
    return [result for wave in waves for result in _set_flow_run_states(connection, wave)]


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
            results.append(FlowRunOutcome(*_reject_again(earlier, change), flow_run=run))
            continue
        transition = Transition(run, change.proposed, connection.now)
        decision = decide(flow_run_policy(forced=change.force), transition)
        state = None
        if decision.state is not None:
            state = enter_flow_run_state(run, decision, connection.now, change.proposed.details.transition_id)
            moved.append(run)
        results.append(FlowRunOutcome(*_answer(decision, run.state, state), flow_run=run))
    states.insert_flow_run_states(connection, [run.state for run in moved if run.state])
    flow_runs.update_flow_run_progress(connection, moved)
    follow_subflows(connection, moved)
    return results


def enter_flow_run_state(
    run: FlowRunRecord, decision: Decision, now: str, transition_id: str | None = None
) -> StateRecord:
    """Put the flow run into the decided state, with what is to happen beside it. Writes nothing."""
    assert decision.state is not None
    effects = decision.effects
    if effects.pause_keys is not None:
        run.pause_keys_json = to_json(list(effects.pause_keys))
    if effects.resuming is not None:
        run.resuming = effects.resuming
    return enter(run, decision.state, now, transition_id=transition_id)


def follow_subflows(connection: Connection, moved: Sequence[FlowRunRecord]) -> None:
    """Give the task runs that stand for these flow runs copies of their states, whatever the rules would say."""
    copies = [
        StateChange(run.parent_task_run_id, _copy_for_parent(run, run.state), force=True)
        for run in moved
        if run.parent_task_run_id is not None and run.state is not None
    ]
    if copies:
        set_task_run_states(connection, copies)


def _copy_for_parent(run: FlowRunRecord, state: StateRecord) -> ProposedState:
    details = replace(state.details, child_flow_run_id=run.id, transition_id=None)
    return ProposedState(state.type, state.name, state.message, state.data, details)


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


def _reject_again(earlier: StateRecord, change: StateChange) -> Answer:
    """As `_answer_again`, but not as if it had been made now: clients of flow runs count on being told."""
    if change.force:
        return _answer_again(earlier, change)
    return OrchestrationStatus.REJECT, earlier, "This transition was made before.", None, False


def _key_of(change: StateChange) -> tuple[str, str | None]:
    return change.id, change.proposed.details.transition_id


def _waves(changes: Sequence[StateChange]) -> Iterator[Sequence[StateChange]]:
    """The changes in their order, cut so that no part names a run twice."""
    start = 0
    seen: set[str] = set()
    for place, change in enumerate(changes):
        if change.id in seen:
            yield changes[start:place]
            start, seen = place, set[str]()
        seen.add(change.id)
    yield changes[start:]
