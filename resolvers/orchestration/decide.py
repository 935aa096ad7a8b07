"""Asks the rules about a transition, and carries the state that comes of it into the run's figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from db.enums import TERMINAL, StateType
from db.records import FlowRunRecord, RunRecord, StateRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_between
from resolvers.orchestration.transition import (
    NO_EFFECTS,
    Abort,
    Amend,
    Effects,
    OrchestrationStatus,
    ProposedState,
    Reject,
    Rule,
    Transition,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules made of a proposal."""

    status: OrchestrationStatus
    state: ProposedState | None
    """The state to take; None where the run keeps the one it has."""
    reason: str | None = None
    delay_seconds: float | None = None
    effects: Effects = NO_EFFECTS
    """What is to happen beside it. The effects of the rules are dropped where the proposal is not taken."""
    waits_for_slot: bool = False
    """Whether the wait is for a concurrency slot, which may come sooner."""


def decide(policy: Sequence[Rule], transition: Transition) -> Decision:
    """Ask the rules that govern this transition, in their order.

    A rule is no longer asked once an earlier one has taken the proposal away or put a state of another type in its place.
    """
    leaving, entering = transition.current_type, transition.proposed.type
    transition = replace(transition, run_count=transition.run.run_count)
    effects = NO_EFFECTS
    for each in policy:
        if not each.governs(leaving, entering):
            continue
        verdict = each.decide(transition)
        if verdict is None:
            continue
        if isinstance(verdict, Amend):
            effects = effects.joined(verdict.effects)
            transition = replace(
                transition,
                proposed=verdict.proposed or transition.proposed,
                run_count=transition.run_count if effects.run_count is None else effects.run_count,
            )
        elif isinstance(verdict, Reject):
            return Decision(OrchestrationStatus.REJECT, verdict.instead, verdict.reason, effects=verdict.effects)
        elif isinstance(verdict, Abort):
            return Decision(OrchestrationStatus.ABORT, None, verdict.reason)
        else:
            status = OrchestrationStatus.WAIT
            return Decision(status, None, verdict.reason, verdict.delay_seconds, waits_for_slot=verdict.for_slot)
    return Decision(OrchestrationStatus.ACCEPT, transition.proposed, effects=effects)


def enter(run: RunRecord, proposed: ProposedState, now: str, *, transition_id: str | None = None) -> StateRecord:
    """Put `run` into the state, as of `now`, and give back the state's record. Changes the run's figures, writes nothing.

    `transition_id` is the transition that was asked for, where the state is not the one that was proposed by it.
    """
    if isinstance(run, TaskRunRecord):
        ids = {"flow_run_id": run.flow_run_id, "task_run_id": run.id}
    else:
        assert isinstance(run, FlowRunRecord)
        ids = {"flow_run_id": run.id, "task_run_id": run.parent_task_run_id}
    details = replace(proposed.details, **ids)
    if proposed.type is StateType.SCHEDULED and details.scheduled_time is None:
        details.scheduled_time = now
    state = StateRecord(
        # A run's states have rising ids, whichever servers' clocks they were made by.
        id=new_id(after=run.state_id),
        run_id=run.id,
        type=proposed.type,
        name=proposed.name,
        timestamp=now,
        message=proposed.message,
        data=proposed.data,
        details_json=details.to_json(),
        transition_id=transition_id or details.transition_id,
    )
    _count(run, state, details.scheduled_time)
    run.state = state
    run.state_id, run.state_type, run.state_name, run.state_timestamp = state.id, state.type, state.name, now
    run.updated = run.read_at = now
    return state


def _count(run: RunRecord, state: StateRecord, scheduled_time: str | None) -> None:
    """The figures that follow from a state, whatever rule made it. In this order: each line reads what is there yet."""
    is_running, is_scheduled = state.type is StateType.RUNNING, state.type is StateType.SCHEDULED
    if is_running and run.start_time is None:
        run.start_time = state.timestamp
    if run.state_type in TERMINAL and state.type not in TERMINAL:
        run.end_time = None
    if state.type in TERMINAL and run.start_time is not None and run.end_time is None:
        run.end_time = state.timestamp
    if run.state_type is StateType.RUNNING and run.state_timestamp is not None:
        run.total_run_time_seconds += seconds_between(run.state_timestamp, state.timestamp)
    if run.expected_start_time is None:
        run.expected_start_time = scheduled_time if is_scheduled else state.timestamp
    if run.state_type is StateType.SCHEDULED:
        run.next_scheduled_start_time = None
    if is_scheduled:
        run.next_scheduled_start_time = scheduled_time
    resuming = isinstance(run, FlowRunRecord) and run.resuming
    if is_running and not resuming:
        run.run_count += 1
    if isinstance(run, FlowRunRecord) and (is_running or state.type in TERMINAL):
        run.resuming = False
