"""A task run runs only while its flow run does."""

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.transition import Abort, ProposedState, Reject, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def flow_run_must_be_running(transition: Transition) -> Verdict | None:
    """Hold a task run back while its flow run is PAUSED, and stop it where the flow run is not RUNNING at all."""
    flow_run = transition.flow_run
    if flow_run is None or flow_run.state_type is StateType.RUNNING:
        return None
    if flow_run.state_type is StateType.PAUSED:
        pause = StateDetails(pause_timeout=flow_run.pause_timeout, pause_reschedule=flow_run.pause_reschedule)
        return Reject("The flow run is paused.", ProposedState(StateType.PAUSED, "NotReady", details=pause))
    return Abort(f"The flow run is {flow_run.state_type or 'in no state'}, not RUNNING.")
