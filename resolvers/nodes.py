"""Lookup of records of every kind by id."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from db.connection import Connection
from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, StateRecord, TaskRunRecord
from db.statements import flow_runs, flows, states, task_runs
from resolvers import concurrency_limits
from resolvers.concurrency_limits import LimitWithSlots
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.queue_ids import decode_queue_id
from resolvers.queue.stats import TaskQueueStats, read_task_queues

AnyRecord = (
    TaskRunRecord | FlowRunRecord | StateRecord | FlowRecord | DeploymentRecord | LimitWithSlots | TaskQueueStats
)

_LOADERS: Sequence[Callable[[Connection, Sequence[str]], Mapping[str, AnyRecord]]] = (
    task_runs.task_runs_by_id,
    flow_runs.flow_runs_by_id,
    states.task_run_states_by_id,
    states.flow_run_states_by_id,
    flows.flows_by_id,
    flows.deployments_by_id,
    concurrency_limits.limits_by_id,
)


def read_nodes(
    connection: Connection, ids: Sequence[str], subscriber_counts: Counter[str], capacity: QueueCapacity
) -> list[AnyRecord | None]:
    """Return the record with each of these ids; None for an unknown id.

    An id is a UUID in its stored form or the id of a task queue. Every task key has a queue, which may be empty. Costs at
    most one statement for each kind, and two for concurrency limits. Stops when every id is found.
    """
    task_keys = {id: key for id in ids if (key := decode_queue_id(id)) is not None}
    found: dict[str, AnyRecord] = {}
    if task_keys:
        queues = read_task_queues(connection, [*task_keys.values()], subscriber_counts, capacity)
        found |= zip(task_keys, queues, strict=True)
    missing = [id for id in dict.fromkeys(ids) if id not in found]
    for load in _LOADERS:
        if missing:
            found |= load(connection, missing)
            missing = [id for id in missing if id not in found]
    return [found.get(id) for id in ids]
