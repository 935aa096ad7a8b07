"""The state of the flow run as a condition for running its task runs."""

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.transition import Abort, ProposedState, Reject, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def flow_run_must_be_running(transition: Transition) -> Verdict | None:
    """Set PAUSED (`NotReady`) instead of RUNNING while the flow run is PAUSED, and abort if it is in any other state.

    The task run receives the timeout and `pause_reschedule` of the pause.
    """
    flow_run = transition.flow_run
    if flow_run is None or flow_run.state_type is StateType.RUNNING:
        return None
    if flow_run.state_type is StateType.PAUSED:
        pause = StateDetails(pause_timeout_at=flow_run.pause_timeout_at, pause_reschedule=flow_run.pause_reschedule)
        return Reject(
            "The flow run is PAUSED. Propose RUNNING again after it resumes.",
            ProposedState(StateType.PAUSED, "NotReady", details=pause),
        )
    current = f"is {flow_run.state_type}" if flow_run.state_type else "has no state"
    return Abort(f"The flow run {current}; its task runs can run only while it is RUNNING.")
