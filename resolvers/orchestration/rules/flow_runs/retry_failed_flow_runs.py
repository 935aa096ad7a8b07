"""Retries of a failed flow run."""

from db.enums import StateType
from db.records import FlowRunRecord, StateDetails
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.transition import Effects, ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.RUNNING}, entering={StateType.FAILED})
def retry_failed_flow_runs(transition: Transition) -> Verdict | None:
    """Set SCHEDULED (`AwaitingRetry`) instead of FAILED and reset the pauses, while the flow run has retries left."""
    run, failure = transition.run, transition.proposed
    assert isinstance(run, FlowRunRecord)
    if run.retries is None or run.run_count > run.retries:
        return None
    details = StateDetails(scheduled_time=seconds_after(transition.now, run.retry_delay_seconds or 0.0))
    retry = ProposedState(StateType.SCHEDULED, "AwaitingRetry", failure.message, failure.data, details)
    return Reject("The flow run has retries left.", retry, Effects(pause_keys=(), resuming=False))
