"""Transitions of a task run that has ended."""

from dataclasses import replace

import orjson

from db.enums import TERMINAL, StateType
from db.records import JsonText
from resolvers.orchestration.transition import TERMINAL_STATES, Abort, Amend, Effects, Reject, Transition, Verdict, rule

FORBIDDEN_AFTER_TERMINAL = {StateType.CANCELLING, StateType.PAUSED, StateType.CRASHED}


@rule(leaving=TERMINAL_STATES)
def leave_terminal_states(transition: Transition) -> Verdict | None:
    """Allow a task run to start again with a run count of 0, unless it is COMPLETED with a persisted result.

    CANCELLING, PAUSED and CRASHED are aborted. RUNNING is named `Retrying` if the flow run has restarted since the task
    run last ran.
    """
    proposed, current = transition.proposed, transition.current
    if proposed.type in FORBIDDEN_AFTER_TERMINAL:
        return Abort(f"The task run is {transition.current_type} and cannot become {proposed.type}.")
    if current is not None and current.type is StateType.COMPLETED and has_persisted_result(current.data):
        return Reject("The task run is COMPLETED with a persisted result and cannot change its state.")
    if proposed.type in TERMINAL:
        return None
    if (
        proposed.type is StateType.RUNNING
        and transition.flow_run is not None
        and transition.flow_run_run_count < transition.flow_run.run_count
    ):
        proposed = replace(proposed, name="Retrying")
    return Amend(proposed, Effects(run_count=0))


def has_persisted_result(data: JsonText | None) -> bool:
    """Whether the data of a state is a persisted result: any value except empty ones and those of type `unpersisted`."""
    value = None if data is None else orjson.loads(data)
    return bool(value) and not (isinstance(value, dict) and value.get("type") == "unpersisted")  # pyright: ignore
