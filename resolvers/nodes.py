"""Lookup of records of every kind by id."""

from collections.abc import Callable, Mapping, Sequence

from db.connection import Connection
from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from db.statements import flow_runs, flows, task_runs
from resolvers import concurrency_limits
from resolvers.concurrency_limits import LimitWithSlots

AnyRecord = TaskRunRecord | FlowRunRecord | FlowRecord | DeploymentRecord | LimitWithSlots

_LOADERS: Sequence[Callable[[Connection, Sequence[str]], Mapping[str, AnyRecord]]] = (
    task_runs.task_runs_by_id,
    flow_runs.flow_runs_by_id,
    flows.flows_by_id,
    flows.deployments_by_id,
    concurrency_limits.limits_by_id,
)


def read_nodes(connection: Connection, ids: Sequence[str]) -> list[AnyRecord | None]:
    """Return the record with each of these ids; None for an unknown id.

    Costs at most one statement for each kind, and two for concurrency limits. Stops when every id is found.
    """
    found: dict[str, AnyRecord] = {}
    missing = list(dict.fromkeys(ids))
    for load in _LOADERS:
        if missing:
            found |= load(connection, missing)
            missing = [id for id in missing if id not in found]
    return [found.get(id) for id in ids]
