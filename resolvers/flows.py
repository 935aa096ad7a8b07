"""Flows and their deployments: create, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import DeploymentRecord, FlowRecord, to_json
from db.runtime.ids import new_id
from db.statements import concurrency_limits, flow_runs, flows
from resolvers.errors import Conflict, deletions
from resolvers.queue.entries import make_due_for_slots


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow that somebody wants to have."""

    name: str
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CreatedFlow:
    """The flow that has the name asked for, and whether this call made it."""

    flow: FlowRecord
    created: bool


def create_flows(connection: Connection, wanted: Sequence[NewFlow]) -> list[CreatedFlow | Exception]:
    """Make the flows, or find those of the same names; a known one is not changed."""
    known = flows.flows_by_name(connection, [each.name for each in wanted])
    results: list[CreatedFlow | Exception] = []
    made: list[FlowRecord] = []
    for new in wanted:
        is_new = new.name not in known
        if is_new:
            known[new.name] = FlowRecord(new_id(), connection.now, connection.now, new.name, to_json(list(new.tags)))
            made.append(known[new.name])
        results.append(CreatedFlow(known[new.name], is_new))
    flows.insert_flows(connection, made)
    return results


def delete_flows(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete the flows with all that belongs to them. NotFound for one that is not there."""
    there = set(flows.flows_by_id(connection, ids))
    freed = concurrency_limits.tags_held_by_flows(connection, ids)
    flows.delete_flows(connection, ids)
    make_due_for_slots(connection, freed)
    return deletions("flow", ids, there)


def read_flows(connection: Connection, ids: Sequence[str]) -> list[FlowRecord | None]:
    found = flows.flows_by_id(connection, ids)
    return [found.get(id) for id in ids]


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """A deployment that somebody wants to have."""

    name: str
    flow_id: str
    tags: Sequence[str] = ()
    is_schedule_active: bool = True
    work_queue_name: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedDeployment:
    """The deployment that has the flow and name asked for, and whether this call made it."""

    deployment: DeploymentRecord
    created: bool


def create_deployments(connection: Connection, wanted: Sequence[NewDeployment]) -> list[CreatedDeployment | Exception]:
    """Make the deployments, or find those of the same flows and names; a known one is not changed.

    Conflict where the flow is not there.
    """
    existing = flows.flows_by_id(connection, [each.flow_id for each in wanted])
    known = flows.deployments_by_key(connection, [(each.flow_id, each.name) for each in wanted])
    results: list[CreatedDeployment | Exception] = []
    made: list[DeploymentRecord] = []
    for new in wanted:
        key = (new.flow_id, new.name)
        if new.flow_id not in existing:
            results.append(Conflict("flowId", "flow", new.flow_id))
            continue
        is_new = key not in known
        if is_new:
            known[key] = DeploymentRecord(
                id=new_id(),
                created=connection.now,
                updated=connection.now,
                name=new.name,
                flow_id=new.flow_id,
                tags_json=to_json(list(new.tags)),
                work_queue_name=new.work_queue_name,
                is_schedule_active=new.is_schedule_active,
            )
            made.append(known[key])
        results.append(CreatedDeployment(known[key], is_new))
    flows.insert_deployments(connection, made)
    return results


def delete_deployments(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete the deployments, and those of their flow runs that are SCHEDULED. NotFound for one that is not there."""
    there = set(flows.deployments_by_id(connection, ids))
    flow_runs.delete_scheduled_of_deployments(connection, sorted(there))
    flows.delete_deployments(connection, ids)
    return deletions("deployment", ids, there)


def read_deployments(connection: Connection, ids: Sequence[str]) -> list[DeploymentRecord | None]:
    found = flows.deployments_by_id(connection, ids)
    return [found.get(id) for id in ids]
