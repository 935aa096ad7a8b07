"""A failed flow run is tried again, as often as its policy says."""

from db.enums import StateType
from db.records import FlowRunRecord, StateDetails
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.transition import Effects, ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.RUNNING}, entering={StateType.FAILED})
def retry_failed_flow_runs(transition: Transition) -> Verdict | None:
    """Schedule the flow run again in the place of FAILED, with its pauses forgotten, while it has retries left."""
    run, failure = transition.run, transition.proposed
    assert isinstance(run, FlowRunRecord)
    if run.retries is None or run.run_count > run.retries:
        return None
    details = StateDetails(scheduled_time=seconds_after(transition.now, run.retry_delay_seconds or 0.0))
    again = ProposedState(StateType.SCHEDULED, "AwaitingRetry", failure.message, failure.data, details)
    return Reject("The flow run has retries left.", again, Effects(pause_keys=(), resuming=False))
