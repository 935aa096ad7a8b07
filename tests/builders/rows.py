"""Create rows for storage tests."""

from collections.abc import Sequence

from db.connection import Connection
from db.enums import StateType
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewFlow, create_flows
from resolvers.task_runs import NewTaskRun, create_task_runs
from tests.builders.transitions import propose


def new_task_runs(
    count: int,
    state: StateType = StateType.PENDING,
    *,
    flow_run_id: str | None = None,
    task_key: str = "t",
    prefix: str = "",
) -> list[NewTaskRun]:
    return [
        NewTaskRun(task_key, f"{prefix}{number}", flow_run_id=flow_run_id, state=propose(state))
        for number in range(count)
    ]


def make_task_runs(connection: Connection, inputs: Sequence[NewTaskRun]) -> list[str]:
    """Create these task runs and return their ids."""
    ids: list[str] = []
    for created in create_task_runs(connection, inputs):
        assert not isinstance(created, Exception)
        assert created.created
        ids.append(created.task_run.id)
    return ids


def make_flow_run(connection: Connection, parent_task_run_id: str | None = None) -> str:
    """Create a RUNNING flow run of the flow `f` and return its id."""
    (flow,) = create_flows(connection, [NewFlow("f")])
    assert not isinstance(flow, Exception)
    new = NewFlowRun(flow.flow.id, parent_task_run_id=parent_task_run_id, state=propose(StateType.RUNNING))
    (created,) = create_flow_runs(connection, [new])
    assert not isinstance(created, Exception)
    return created.flow_run.id


def claim_request(credit: int, *task_keys: str) -> ClaimRequest:
    """Return the claim request of one worker for up to `credit` runs of the task keys, by default `t`."""
    keys = task_keys or ("t",)
    return ClaimRequest([Demand(1, frozenset(keys), credit, 60.0, "worker")], keys, 30.0)


def claim(connection: Connection, credit: int) -> Claim:
    """Claim up to `credit` runs of the task key `t` for one worker."""
    (result,) = claim_due_runs(connection, [claim_request(credit)])
    assert isinstance(result, Claim)
    return result
