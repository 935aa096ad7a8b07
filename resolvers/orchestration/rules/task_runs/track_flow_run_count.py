"""The run count of the flow run, as recorded in its task runs."""

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Effects, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def track_flow_run_count(transition: Transition) -> Verdict | None:
    """Record the run count of the flow run. `leave_terminal_states` uses it to recognize a retry of the flow run."""
    if transition.flow_run is None:
        return None
    return Amend(effects=Effects(flow_run_run_count=transition.flow_run.run_count))
