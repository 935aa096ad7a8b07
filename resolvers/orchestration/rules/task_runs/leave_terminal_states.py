"""When a run that has ended may be taken up again."""

from dataclasses import replace

import orjson

from db.enums import TERMINAL, StateType
from db.records import JsonText
from resolvers.orchestration.transition import TERMINAL_STATES, Abort, Amend, Effects, Reject, Transition, Verdict, rule

NEVER_AFTER_THE_END = {StateType.CANCELLING, StateType.PAUSED, StateType.CRASHED}


@rule(leaving=TERMINAL_STATES)
def leave_terminal_states(transition: Transition) -> Verdict | None:
    """Let a run that has ended start over, with its retries counted afresh; unless it has a result to keep.

    A COMPLETED run with a kept result stays as it is. One whose flow run has begun anew since it last ran is named
    `Retrying` when it runs again.
    """
    proposed, current = transition.proposed, transition.current
    if proposed.type in NEVER_AFTER_THE_END:
        return Abort(f"The run has ended ({transition.current_type}): it can not become {proposed.type}.")
    if current is not None and current.type is StateType.COMPLETED and is_kept(current.data):
        return Reject("The run is COMPLETED and its result is kept.")
    if proposed.type in TERMINAL:
        return None
    if (
        proposed.type is StateType.RUNNING
        and transition.flow_run is not None
        and transition.flow_run_run_count < transition.flow_run.run_count
    ):
        proposed = replace(proposed, name="Retrying")
    return Amend(proposed, Effects(run_count=0))


def is_kept(data: JsonText | None) -> bool:
    """Whether a state's data is a result that others may rely on: anything but an empty value or an unpersisted one."""
    value = None if data is None else orjson.loads(data)
    return bool(value) and not (isinstance(value, dict) and value.get("type") == "unpersisted")  # pyright: ignore
