"""Rows for tests of what is stored."""

from collections.abc import Sequence

from db.connection import Connection
from db.enums import StateType
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from resolvers.flow_runs import NewFlowRun, create_flow_runs
from resolvers.flows import NewFlow, create_flows
from resolvers.orchestration.transition import ProposedState
from resolvers.task_runs import NewTaskRun, create_task_runs


def proposed(type: StateType) -> ProposedState:
    return ProposedState(type, type.default_name)


def new_task_runs(
    count: int,
    state: StateType = StateType.PENDING,
    *,
    flow_run_id: str | None = None,
    task_key: str = "t",
    prefix: str = "",
) -> list[NewTaskRun]:
    return [
        NewTaskRun(task_key, f"{prefix}{number}", flow_run_id=flow_run_id, state=proposed(state))
        for number in range(count)
    ]


def make_task_runs(connection: Connection, wanted: Sequence[NewTaskRun]) -> list[str]:
    """The ids of these runs, made."""
    ids: list[str] = []
    for created in create_task_runs(connection, wanted):
        assert not isinstance(created, Exception)
        assert created.created
        ids.append(created.task_run.id)
    return ids


def make_flow_run(connection: Connection, parent_task_run_id: str | None = None) -> str:
    """The id of a new flow run, RUNNING, of the flow `f`."""
    (flow,) = create_flows(connection, [NewFlow("f")])
    assert not isinstance(flow, Exception)
    new = NewFlowRun(flow.flow.id, parent_task_run_id=parent_task_run_id, state=proposed(StateType.RUNNING))
    (created,) = create_flow_runs(connection, [new])
    assert not isinstance(created, Exception)
    return created.flow_run.id


def request_for(credit: int, *task_keys: str) -> ClaimRequest:
    """One worker's request for as many runs of the keys, which are `t` where none is named."""
    keys = task_keys or ("t",)
    return ClaimRequest([Demand(1, frozenset(keys), credit, 60.0, "worker")], keys, 30.0)


def claim(connection: Connection, credit: int) -> Claim:
    """What one worker with this credit is given of the key `t`."""
    (made,) = claim_due_runs(connection, [request_for(credit)])
    assert isinstance(made, Claim)
    return made
