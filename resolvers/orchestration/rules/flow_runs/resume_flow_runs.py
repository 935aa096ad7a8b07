"""Transitions of a paused flow run."""

from db.enums import StateType
from db.records import FlowRunRecord
from resolvers.orchestration.transition import Amend, Effects, ProposedState, Reject, Transition, Verdict, rule

_FORBIDDEN_AFTER_PAUSE = {StateType.PENDING, StateType.PAUSED, StateType.CANCELLING}


@rule(leaving={StateType.PAUSED})
def resume_flow_runs(transition: Transition) -> Verdict | None:
    """Mark a flow run as resuming when it leaves PAUSED before the pause times out.

    PENDING, PAUSED and CANCELLING are rejected. After a pause with `pause_reschedule`, every proposal is rejected if the
    flow run has no deployment. After the timeout, every proposal that is not rejected sets FAILED instead.
    """
    run, proposed, current = transition.run, transition.proposed, transition.current
    assert isinstance(run, FlowRunRecord)
    assert current is not None
    if proposed.type in _FORBIDDEN_AFTER_PAUSE:
        return Reject(f"The flow run is PAUSED and cannot become {proposed.type}.")
    pause = current.details
    if pause.pause_reschedule and run.deployment_id is None:
        return Reject("The flow run has no deployment that could start it again after the pause.")
    if pause.pause_timeout_at is not None and pause.pause_timeout_at < transition.now:
        message = f"The pause timed out at {pause.pause_timeout_at}."
        return Reject(message, ProposedState(StateType.FAILED, StateType.FAILED.default_name, message))
    return Amend(effects=Effects(resuming=True))
