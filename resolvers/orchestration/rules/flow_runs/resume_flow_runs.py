"""How a flow run leaves a pause."""

from db.enums import StateType
from db.records import FlowRunRecord
from resolvers.orchestration.transition import Amend, Effects, ProposedState, Reject, Transition, Verdict, rule

_NOT_AFTER_A_PAUSE = {StateType.PENDING, StateType.PAUSED, StateType.CANCELLING}


@rule(leaving={StateType.PAUSED})
def resume_flow_runs(transition: Transition) -> Verdict | None:
    """Let a paused flow run go on in time; one whose pause has run out has FAILED, whatever is proposed for it."""
    run, proposed, current = transition.run, transition.proposed, transition.current
    assert isinstance(run, FlowRunRecord)
    assert current is not None
    if proposed.type in _NOT_AFTER_A_PAUSE:
        return Reject(f"The flow run is paused: it can not become {proposed.type}.")
    pause = current.details
    if pause.pause_reschedule and run.deployment_id is None:
        return Reject("The flow run has no deployment: nobody would start it again.")
    if pause.pause_timeout is not None and pause.pause_timeout < transition.now:
        failure = ProposedState(StateType.FAILED, StateType.FAILED.default_name, "The pause was not ended in time.")
        return Reject("The pause has run out.", failure)
    return Amend(effects=Effects(resuming=True))
