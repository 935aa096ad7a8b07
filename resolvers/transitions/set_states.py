"""Setting states: the rules decide proposed states, and the results of a batch are written together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from db.connection import Connection, LeaseSettled
from db.enums import StateType
from db.records import FlowRunRecord, StateDetails, StateRecord, TaskRunRecord, to_json
from db.runtime.ids import new_id
from db.statements import flow_runs, states, task_runs
from db.statements.task_runs import TaskRunFacts
from resolvers.actor import request_actor
from resolvers.errors import NotFound, QueueFull
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import flow_run_policy, task_run_policy
from resolvers.orchestration.transition import FlowRunFacts, OrchestrationStatus, ProposedState, Transition
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.entries import entered_side, is_leased_under
from resolvers.transitions.batch import TaskRunTransitions
from resolvers.transitions.enter_state import enter_state


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state proposed for a run."""

    run_id: str
    proposed: ProposedState
    force: bool = False
    lease_id: str | None = None
    actor: str | None = field(default_factory=request_actor.get)
    """The client that proposes the state; None when the server sets it."""


@dataclass(frozen=True, slots=True)
class TaskRunTransitionResult:
    """Result of a proposed state for a task run.

    `state` is the state after this change, and `task_run` is the run after all changes of the transaction.
    """

    status: OrchestrationStatus
    state: StateRecord | None
    reason: str | None
    delay_seconds: float | None
    state_created: bool
    task_run: TaskRunRecord


@dataclass(frozen=True, slots=True)
class FlowRunTransitionResult:
    """Result of a proposed state for a flow run."""

    status: OrchestrationStatus
    state: StateRecord | None
    reason: str | None
    delay_seconds: float | None
    state_created: bool
    flow_run: FlowRunRecord


def set_task_run_states(
    connection: Connection, changes: Sequence[StateChange], capacity: QueueCapacity | None = None
) -> list[TaskRunTransitionResult | Exception]:
    """Orchestrate the changes in order. Each has its own result, and a later change of a run sees the earlier ones.

    All results of a run have the same record of it, as it is after the last change.
    Costs a constant number of statements unless a run occurs twice. Returns NotFound for an unknown run, and QueueFull
    when a queue has reached its limit. Without `capacity`, queues have no limit.
    """
    parts = list(_split_by_run(changes))
    if len(parts) > 1:
        # Each part locks its runs. Locking all of them first, in one order, prevents deadlocks.
        task_runs.lock_task_runs(connection, [change.run_id for change in changes])
    results = [result for part in parts for result in _set_task_run_states(connection, part, capacity)]
    return results if len(parts) == 1 else _with_last_records(results)


def _with_last_records(
    results: Sequence[TaskRunTransitionResult | Exception],
) -> list[TaskRunTransitionResult | Exception]:
    """Replace the run of each result with its last record, because each part has read the run again."""
    last = {each.task_run.id: each.task_run for each in results if isinstance(each, TaskRunTransitionResult)}
    return [
        replace(each, task_run=last[each.task_run.id]) if isinstance(each, TaskRunTransitionResult) else each
        for each in results
    ]


def _set_task_run_states(
    connection: Connection, changes: Sequence[StateChange], capacity: QueueCapacity | None
) -> list[TaskRunTransitionResult | Exception]:
    facts_by_id = task_runs.task_run_facts(connection, [_key_of(change) for change in changes])
    runs = [facts.run for facts in facts_by_id.values()]
    transitions = TaskRunTransitions.load(connection, runs, [change.proposed for change in changes])
    if capacity is not None:
        sides = [
            entered_side(facts.run, change.proposed, facts.queue_entry)
            for change in changes
            if (facts := facts_by_id.get(change.run_id))
        ]
        transitions.reservation = capacity.begin_reservation(connection, filter(None, sides), argument="state")
    results: list[TaskRunTransitionResult | Exception] = []
    for change in changes:
        facts = facts_by_id.get(change.run_id)
        if facts is None:
            results.append(NotFound("id", "task run", change.run_id))
        elif facts.recorded_state is not None and not _begins_under_lost_lease(
            facts.recorded_state, change, facts, connection.now
        ):
            results.append(TaskRunTransitionResult(*_repeated_fields(facts.recorded_state, change), task_run=facts.run))
        else:
            try:
                decision, state = transitions.propose(
                    task_run_policy(in_flow_run=facts.run.flow_run_id is not None, forced=change.force),
                    facts.run,
                    change.proposed,
                    flow_run=flow_run_facts(facts),
                    entry=facts.queue_entry,
                    lease_id=change.lease_id,
                    actor=change.actor,
                )
            except QueueFull as refusal:
                results.append(refusal)
                continue
            results.append(
                TaskRunTransitionResult(*_result_fields(decision, facts.run.state, state), task_run=facts.run)
            )
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)
    # A client that names a lease has received the delivery, even if the lease is lost, so its credit is free again.
    connection.notify(LeaseSettled(change.lease_id) for change in changes if change.lease_id is not None)
    return results


def _begins_under_lost_lease(recorded_state: StateRecord, change: StateChange, facts: TaskRunFacts, now: str) -> bool:
    """Return whether the worker that repeats this transition has lost its lease and must not continue with the run.

    Another worker may have the run by now. A transition that ended the work, permanently or until a retry, has ended
    the lease as well, and may be repeated.
    """
    if change.lease_id is None or recorded_state.type not in (StateType.PENDING, StateType.RUNNING):
        return False
    entry = facts.queue_entry
    return not is_leased_under(entry, change.lease_id) or entry is None or (entry.lease_expires_at or "") <= now


def flow_run_facts(facts: TaskRunFacts) -> FlowRunFacts | None:
    """Return what rules know about the flow run of a task run; None for a background run."""
    if facts.run.flow_run_id is None:
        return None
    pause = facts.flow_run_details or StateDetails()
    return FlowRunFacts(
        facts.flow_run_state_type, facts.flow_run_run_count or 0, pause.pause_timeout_at, pause.pause_reschedule
    )


def set_flow_run_states(
    connection: Connection, changes: Sequence[StateChange]
) -> list[FlowRunTransitionResult | Exception]:
    """Orchestrate changes of flow runs, as `set_task_run_states` does for task runs."""
    parts = list(_split_by_run(changes))
    if len(parts) > 1:
        flow_runs.lock_flow_runs(connection, [change.run_id for change in changes])
    return [result for part in parts for result in _set_flow_run_states(connection, part)]


def _set_flow_run_states(
    connection: Connection, changes: Sequence[StateChange]
) -> list[FlowRunTransitionResult | Exception]:
    facts_by_id = flow_runs.flow_run_facts(connection, [_key_of(change) for change in changes])
    results: list[FlowRunTransitionResult | Exception] = []
    changed_runs: list[FlowRunRecord] = []
    for change in changes:
        if change.run_id not in facts_by_id:
            results.append(NotFound("id", "flow run", change.run_id))
            continue
        run, recorded_state = facts_by_id[change.run_id]
        if recorded_state is not None:
            results.append(FlowRunTransitionResult(*_repeated_flow_run_fields(recorded_state, change), flow_run=run))
            continue
        decision, state = decide_flow_run_state(
            run, change.proposed, connection.now, forced=change.force, actor=change.actor
        )
        if state is not None:
            changed_runs.append(run)
        results.append(FlowRunTransitionResult(*_result_fields(decision, run.state, state), flow_run=run))
    write_flow_run_states(connection, changed_runs)
    return results


def decide_flow_run_state(
    run: FlowRunRecord, proposed: ProposedState, now: str, *, forced: bool = False, actor: str | None = None
) -> tuple[Decision, StateRecord | None]:
    """Decide a proposed state and apply the decision to `run`, in memory. Return the decision and the new state, if any."""
    transition = Transition(run, proposed, now, new_pause_key=new_id(now))
    decision = decide(flow_run_policy(forced=forced), transition)
    if decision.state is None:
        return decision, None
    return decision, enter_flow_run_state(run, decision, now, proposed.details.transition_id, actor)


def write_flow_run_states(connection: Connection, changed_runs: Sequence[FlowRunRecord]) -> None:
    """Write the new states of these flow runs, also to the task runs that represent them."""
    states.insert_flow_run_states(connection, [run.state for run in changed_runs if run.state])
    flow_runs.update_current_states(connection, changed_runs)
    copy_states_to_parent_task_runs(connection, changed_runs)


def enter_flow_run_state(
    run: FlowRunRecord, decision: Decision, now: str, transition_id: str | None = None, actor: str | None = None
) -> StateRecord:
    """Apply the decided state and its effects to the flow run, in memory, and return the new state."""
    assert decision.state is not None
    effects = decision.effects
    if effects.pause_keys is not None:
        run.pause_keys_json = to_json(list(effects.pause_keys))
    if effects.resuming is not None:
        run.resuming = effects.resuming
    return enter_state(run, decision.state, now, transition_id=transition_id, actor=actor)


def copy_states_to_parent_task_runs(connection: Connection, changed_runs: Sequence[FlowRunRecord]) -> None:
    """Copy the states of these flow runs to the task runs that represent them, without applying the rules."""
    copies = [
        StateChange(run.parent_task_run_id, _copy_for_parent(run, run.state), force=True, actor=run.state.actor)
        for run in changed_runs
        if run.parent_task_run_id is not None and run.state is not None
    ]
    if copies:
        set_task_run_states(connection, copies)


def _copy_for_parent(run: FlowRunRecord, state: StateRecord) -> ProposedState:
    details = replace(state.details, child_flow_run_id=run.id, transition_id=None)
    return ProposedState(state.type, state.name, state.message, state.data, details)


_ResultFields = tuple[OrchestrationStatus, StateRecord | None, str | None, float | None, bool]
"""Fields of a transition result without the run."""


def _result_fields(decision: Decision, current: StateRecord | None, new: StateRecord | None) -> _ResultFields:
    return decision.status, current, decision.reason, decision.delay_seconds, new is not None


def _repeated_fields(recorded_state: StateRecord, change: StateChange) -> _ResultFields:
    """Return the result of repeating a transition: the state that it set before. Nothing is written."""
    if recorded_state.type is change.proposed.type:
        return OrchestrationStatus.ACCEPT, recorded_state, None, None, False
    reason = (
        f"This transition id has already set the state {recorded_state.name}. Use a new id to propose another state."
    )
    return OrchestrationStatus.REJECT, recorded_state, reason, None, False


def _repeated_flow_run_fields(recorded_state: StateRecord, change: StateChange) -> _ResultFields:
    """Return the same as `_repeated_fields`, but REJECT unless forced: clients of flow runs rely on it."""
    if change.force:
        return _repeated_fields(recorded_state, change)
    reason = "This transition id has already been used. Use a new id to propose another state."
    return OrchestrationStatus.REJECT, recorded_state, reason, None, False


def _key_of(change: StateChange) -> tuple[str, str | None]:
    return change.run_id, change.proposed.details.transition_id


def _split_by_run(changes: Sequence[StateChange]) -> Iterator[Sequence[StateChange]]:
    """Split the changes, in order, into parts that contain each run at most once."""
    start = 0
    seen: set[str] = set()
    for index, change in enumerate(changes):
        if change.run_id in seen:
            yield changes[start:index]
            start, seen = index, set[str]()
        seen.add(change.run_id)
    yield changes[start:]
