"""Transitions of a flow run that has ended."""

from db.enums import TERMINAL, StateType
from db.records import FlowRunRecord
from resolvers.orchestration.rules.task_runs.leave_terminal_states import FORBIDDEN_AFTER_TERMINAL, has_persisted_result
from resolvers.orchestration.transition import (
    TERMINAL_STATES,
    Abort,
    Amend,
    Effects,
    Reject,
    Transition,
    Verdict,
    rule,
)


@rule(leaving=TERMINAL_STATES)
def leave_terminal_flow_run_states(transition: Transition) -> Verdict | None:
    """Allow a flow run to start again and reset its pauses, unless it is COMPLETED with a persisted result.

    SCHEDULED requires a deployment, which starts the flow run. CANCELLING, PAUSED and CRASHED are aborted.
    Terminal states can follow each other.
    """
    run, proposed, current = transition.run, transition.proposed, transition.current
    assert isinstance(run, FlowRunRecord)
    if proposed.type in FORBIDDEN_AFTER_TERMINAL:
        return Abort(f"The flow run is {transition.current_type} and cannot become {proposed.type}.")
    if proposed.type in TERMINAL:
        return None
    if current is not None and current.type is StateType.COMPLETED and has_persisted_result(current.data):
        return Reject("The flow run is COMPLETED with a persisted result and cannot start again.")
    if proposed.type is StateType.SCHEDULED and run.deployment_id is None:
        return Abort("The flow run has no deployment that could start it again.")
    return Amend(effects=Effects(pause_keys=(), resuming=False))
