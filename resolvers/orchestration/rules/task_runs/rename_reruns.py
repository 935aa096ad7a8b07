"""State names of repeated runs."""

from dataclasses import replace

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def rename_reruns(transition: Transition) -> Verdict | None:
    """Name RUNNING `Retrying` directly after `AwaitingRetry`, and otherwise `Rerunning`, if the task run has run before."""
    if transition.run_count == 0:
        return None
    is_retry = transition.current is not None and transition.current.name == "AwaitingRetry"
    return Amend(replace(transition.proposed, name="Retrying" if is_retry else "Rerunning"))
