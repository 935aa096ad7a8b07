"""Applies a decided state to a run in memory: builds the state's record and updates the run's statistics."""

from dataclasses import replace

from db.enums import TERMINAL, StateType
from db.records import FlowRunRecord, RunRecord, StateRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_after, seconds_between
from resolvers.orchestration.transition import ProposedState

MICROSECOND = 1e-6


def enter_state(
    run: RunRecord,
    proposed: ProposedState,
    now: str,
    *,
    transition_id: str | None = None,
    actor: str | None = None,
    lease_id: str | None = None,
) -> StateRecord:
    """Set the state of `run` at the time `now`, update its statistics and return the new state. Writes nothing.

    When the clock has been set back, the time is directly after that of the previous state: the states of a run stay in
    order, and no duration is negative. `transition_id`: the id of the proposed transition, needed when a rule has
    replaced the proposed state. `actor`: the client that proposed it; None when the server sets the state. `lease_id`: the
    lease that the run is under.
    """
    if run.state_timestamp is not None and now < run.state_timestamp:
        now = seconds_after(run.state_timestamp, MICROSECOND)
    if isinstance(run, TaskRunRecord):
        ids = {"flow_run_id": run.flow_run_id, "task_run_id": run.id}
    else:
        assert isinstance(run, FlowRunRecord)
        ids = {"flow_run_id": run.id, "task_run_id": run.parent_task_run_id}
    details = replace(proposed.details, **ids)
    if proposed.type is StateType.SCHEDULED and details.scheduled_time is None:
        details.scheduled_time = now
    state = StateRecord(
        # The ids of a run's leases and states increase, even when the clocks of two servers differ or one is set back.
        id=new_id(now, after=max(run.state_id or "", lease_id or "") or None),
        run_id=run.id,
        type=proposed.type,
        name=proposed.name,
        timestamp=now,
        message=proposed.message,
        data=proposed.data,
        details_json=details.to_json(),
        transition_id=transition_id or details.transition_id,
        actor=actor,
    )
    _update_statistics(run, state, details.scheduled_time)
    if isinstance(run, TaskRunRecord) and state.type is StateType.RUNNING:
        run.progress_json = None
    run.state = state
    run.state_id, run.state_type, run.state_name, run.state_timestamp = state.id, state.type, state.name, now
    run.updated = run.read_at = now
    return state


def _update_statistics(run: RunRecord, state: StateRecord, scheduled_time: str | None) -> None:
    """Update the statistics that follow from a new state, whichever rule set it.

    The order matters: the conditions read values that later lines change.
    """
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
