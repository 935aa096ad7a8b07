"""Pauses of a flow run."""

from db.enums import StateType
from db.records import FlowRunRecord
from resolvers.orchestration.transition import Abort, Amend, Effects, Reject, Transition, Verdict, rule


@rule(entering={StateType.PAUSED})
def pause_flow_runs(transition: Transition) -> Verdict | None:
    """Allow PAUSED for a RUNNING flow run, once for each pause key, and record the key.

    `pause_reschedule` ends the process during the pause. It requires a deployment that starts the flow run again, and a
    flow run that is not a subflow.
    """
    run, details = transition.run, transition.proposed.details
    assert isinstance(run, FlowRunRecord)
    if transition.current_type is None:
        return Abort("The flow run has no state and cannot pause.")
    if transition.current_type is not StateType.RUNNING:
        return Reject(f"The flow run is {transition.current_type}; only a RUNNING flow run can pause.")
    keys = run.pause_keys
    if details.pause_key is not None and details.pause_key in keys:
        return Reject("The flow run has already used this pause key. Use a new key for another pause.")
    if details.pause_reschedule and (run.parent_task_run_id is not None or run.deployment_id is None):
        return Abort("`pauseReschedule` requires a flow run with a deployment that is not a subflow.")
    key = details.pause_key or transition.new_pause_key
    assert key is not None
    return Amend(effects=Effects(pause_keys=(*keys, key)))
