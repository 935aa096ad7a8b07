"""When a flow run may pause."""

from db.enums import StateType
from db.records import FlowRunRecord
from db.runtime.ids import new_id
from resolvers.orchestration.transition import Abort, Amend, Effects, Reject, Transition, Verdict, rule


@rule(entering={StateType.PAUSED})
def pause_flow_runs(transition: Transition) -> Verdict | None:
    """Let a flow run that is RUNNING pause, once for each key; and leave its process only where it can come back."""
    run, details = transition.run, transition.proposed.details
    assert isinstance(run, FlowRunRecord)
    if transition.current_type is None:
        return Abort("The flow run is in no state: it can not pause.")
    if transition.current_type is not StateType.RUNNING:
        return Reject(f"The flow run is {transition.current_type}, not RUNNING: it can not pause.")
    keys = run.empirical_policy.pause_keys
    if details.pause_key is not None and details.pause_key in keys:
        return Reject("The flow run has had this pause.")
    if details.pause_reschedule and (run.parent_task_run_id is not None or run.deployment_id is None):
        return Abort("Only a flow run from a deployment, and no subflow, can be started again after a pause.")
    return Amend(effects=Effects(pause_keys=(*keys, details.pause_key or new_id())))
