"""When a flow run that has ended may be taken up again."""

from db.enums import TERMINAL, StateType
from db.records import FlowRunRecord
from resolvers.orchestration.rules.task_runs.leave_terminal_states import NEVER_AFTER_THE_END, is_kept
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
    """Let a flow run that has ended start over, with its pauses forgotten; unless it has a result to keep.

    Only one from a deployment can be scheduled again: nobody else would start it.
    """
    run, proposed, current = transition.run, transition.proposed, transition.current
    assert isinstance(run, FlowRunRecord)
    if proposed.type in NEVER_AFTER_THE_END:
        return Abort(f"The flow run has ended ({transition.current_type}): it can not become {proposed.type}.")
    if proposed.type in TERMINAL:
        return None
    if current is not None and current.type is StateType.COMPLETED and is_kept(current.data):
        return Reject("The flow run is COMPLETED and its result is kept.")
    if proposed.type is StateType.SCHEDULED and run.deployment_id is None:
        return Abort("The flow run has no deployment: nobody would start it.")
    return Amend(effects=Effects(pause_keys=(), resuming=False))
