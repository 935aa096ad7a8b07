"""A task run remembers in which run of its flow run it last ran."""

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Effects, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def track_flow_run_count(transition: Transition) -> Verdict | None:
    """Note the flow run's count of runs, by which `leave_terminal_states` tells a flow's retry."""
    if transition.flow_run is None:
        return None
    return Amend(effects=Effects(flow_run_run_count=transition.flow_run.run_count))
