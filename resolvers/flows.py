"""Flows and their deployments: create, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection, FlowRunsDeleted
from db.records import DeploymentRecord, FlowRecord, to_json
from db.runtime.ids import new_id
from db.statements import concurrency_limits, flow_runs, flows
from resolvers.errors import NotFound, deletion_results
from resolvers.queue.slot_waiters import wake_waiters_of_tags


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow to create."""

    name: str
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CreatedFlow:
    """The new flow, or the existing flow with the same name."""

    flow: FlowRecord
    created: bool


def create_flows(connection: Connection, new_flows: Sequence[NewFlow]) -> list[CreatedFlow | Exception]:
    """Create flows, or return the existing flows with the same names unchanged."""
    by_name = flows.flows_by_name(connection, [each.name for each in new_flows])
    results: list[CreatedFlow | Exception] = []
    created: list[FlowRecord] = []
    for new in new_flows:
        is_new = new.name not in by_name
        if is_new:
            by_name[new.name] = FlowRecord(
                new_id(connection.now), connection.now, connection.now, new.name, to_json(list(new.tags))
            )
            created.append(by_name[new.name])
        results.append(CreatedFlow(by_name[new.name], is_new))
    flows.insert_flows(connection, created)
    return results


def delete_flows(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete flows together with their deployments, flow runs and task runs. Returns NotFound for an unknown id."""
    existing_ids = set(flows.flows_by_id(connection, ids))
    freed = concurrency_limits.tags_held_by_flows(connection, ids)
    flows.delete_flows(connection, ids)
    wake_waiters_of_tags(connection, freed)
    connection.notify([FlowRunsDeleted()])
    return deletion_results("flow", ids, existing_ids)


def read_flows(connection: Connection, ids: Sequence[str]) -> list[FlowRecord | None]:
    found = flows.flows_by_id(connection, ids)
    return [found.get(id) for id in ids]


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """A deployment to create."""

    name: str
    flow_id: str
    tags: Sequence[str] = ()
    is_schedule_active: bool = True
    work_queue_name: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedDeployment:
    """The new deployment, or the existing deployment with the same flow and name."""

    deployment: DeploymentRecord
    created: bool


def create_deployments(
    connection: Connection, new_deployments: Sequence[NewDeployment]
) -> list[CreatedDeployment | Exception]:
    """Create deployments, or return the existing deployments with the same flow and name unchanged.

    Returns NotFound when the flow does not exist.
    """
    existing_flows = flows.flows_by_id(connection, [each.flow_id for each in new_deployments])
    by_key = flows.deployments_by_key(connection, [(each.flow_id, each.name) for each in new_deployments])
    results: list[CreatedDeployment | Exception] = []
    created: list[DeploymentRecord] = []
    for new in new_deployments:
        key = (new.flow_id, new.name)
        if new.flow_id not in existing_flows:
            results.append(NotFound("flowId", "flow", new.flow_id))
            continue
        is_new = key not in by_key
        if is_new:
            by_key[key] = DeploymentRecord(
                id=new_id(connection.now),
                created=connection.now,
                updated=connection.now,
                name=new.name,
                flow_id=new.flow_id,
                tags_json=to_json(list(new.tags)),
                work_queue_name=new.work_queue_name,
                is_schedule_active=new.is_schedule_active,
            )
            created.append(by_key[key])
        results.append(CreatedDeployment(by_key[key], is_new))
    flows.insert_deployments(connection, created)
    return results


def delete_deployments(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete deployments and their SCHEDULED flow runs. Keep other flow runs. Returns NotFound for an unknown id."""
    existing_ids = set(flows.deployments_by_id(connection, ids))
    freed = concurrency_limits.tags_held_by_scheduled_runs_of_deployments(connection, sorted(existing_ids))
    flow_runs.delete_scheduled_of_deployments(connection, sorted(existing_ids))
    flows.delete_deployments(connection, ids)
    wake_waiters_of_tags(connection, freed)
    connection.notify([FlowRunsDeleted()])
    return deletion_results("deployment", ids, existing_ids)


def read_deployments(connection: Connection, ids: Sequence[str]) -> list[DeploymentRecord | None]:
    found = flows.deployments_by_id(connection, ids)
    return [found.get(id) for id in ids]
