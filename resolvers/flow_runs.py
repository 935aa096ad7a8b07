"""Flow runs: create, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection, Row
from db.records import DeploymentRecord, FlowRecord, FlowRunPolicy, FlowRunRecord, JsonText, StateRecord, to_json
from db.runtime.ids import new_id
from db.statements import concurrency_limits, flow_runs, flows, states, task_runs
from resolvers.errors import Conflict, deletions
from resolvers.names import make_up_name
from resolvers.orchestration.decide import decide
from resolvers.orchestration.policy import flow_run_policy
from resolvers.orchestration.transition import ProposedState, Transition
from resolvers.queue.entries import make_due_for_slots
from resolvers.task_runs import FIRST_STATE
from resolvers.transitions.set_states import enter_flow_run_state, follow_subflows


@dataclass(frozen=True, slots=True)
class NewFlowRun:
    """A flow run that somebody wants to have. One of `flow_id` and `deployment_id` is there."""

    flow_id: str | None = None
    deployment_id: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    parameters: JsonText = "{}"
    context: JsonText = "{}"
    flow_version: str | None = None
    idempotency_key: str | None = None
    parent_task_run_id: str | None = None
    policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    state: ProposedState = FIRST_STATE


@dataclass(frozen=True, slots=True)
class CreatedFlowRun:
    """The flow run that has the idempotency key asked for, and whether this call made it."""

    flow_run: FlowRunRecord
    created: bool


def create_flow_runs(connection: Connection, wanted: Sequence[NewFlowRun]) -> list[CreatedFlowRun | Exception]:
    """Make the flow runs, or find those with the same flow and idempotency key; of a known one nothing is changed.

    The first state is taken without asking the rules. With a deployment, its flow and work queue name are taken over and
    its tags come before the run's own. Conflict where the flow, deployment or parent task run is not there.
    """
    existing = _load_named(connection, wanted)
    placed = [_with_deployment(new, existing) for new in wanted]
    keys = [
        (new.flow_id, new.idempotency_key)
        for new in placed
        if isinstance(new, _Placed) and new.idempotency_key is not None
    ]
    known = flow_runs.flow_runs_by_key(connection, keys) if keys else {}
    results: list[CreatedFlowRun | Exception] = []
    made: list[FlowRunRecord] = []
    for new in placed:
        if isinstance(new, Exception):
            results.append(new)
            continue
        key = (new.flow_id, new.idempotency_key or "")
        if new.idempotency_key is not None and key in known:
            results.append(CreatedFlowRun(known[key], created=False))
            continue
        run = _blank(new, connection.now)
        decision = decide(flow_run_policy(forced=True), Transition(run, new.wanted.state, connection.now))
        enter_flow_run_state(run, decision, connection.now)
        made.append(run)
        if new.idempotency_key is not None:
            known[key] = run
        results.append(CreatedFlowRun(run, created=True))
    flow_runs.insert_flow_runs(connection, made)
    states.insert_flow_run_states(connection, [run.state for run in made if run.state])
    follow_subflows(connection, made)
    return results


@dataclass(frozen=True, slots=True)
class _Named:
    """What the wanted flow runs name, as far as it is there."""

    flows: dict[str, FlowRecord]
    deployments: dict[str, DeploymentRecord]
    task_runs: set[str]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A wanted flow run whose flow is known to be there."""

    wanted: NewFlowRun
    flow_id: str
    idempotency_key: str | None
    work_queue_name: str | None
    tags: Sequence[str]


def _load_named(connection: Connection, wanted: Sequence[NewFlowRun]) -> _Named:
    deployment_ids = [each.deployment_id for each in wanted if each.deployment_id is not None]
    parent_ids = [each.parent_task_run_id for each in wanted if each.parent_task_run_id is not None]
    flow_ids = [each.flow_id for each in wanted if each.flow_id is not None]
    return _Named(
        flows=flows.flows_by_id(connection, flow_ids) if flow_ids else {},
        deployments=flows.deployments_by_id(connection, deployment_ids) if deployment_ids else {},
        task_runs=task_runs.existing_task_runs(connection, parent_ids) if parent_ids else set(),
    )


def _with_deployment(new: NewFlowRun, existing: _Named) -> _Placed | Exception:
    if new.flow_id is not None and new.flow_id not in existing.flows:
        return Conflict("flowId", "flow", new.flow_id)
    if new.parent_task_run_id is not None and new.parent_task_run_id not in existing.task_runs:
        return Conflict("parentTaskRunId", "task run", new.parent_task_run_id)
    if new.deployment_id is None:
        assert new.flow_id is not None
        return _Placed(new, new.flow_id, new.idempotency_key, None, new.tags)
    deployment = existing.deployments.get(new.deployment_id)
    if deployment is None:
        return Conflict("deploymentId", "deployment", new.deployment_id)
    tags = [*deployment.tags, *(tag for tag in new.tags if tag not in deployment.tags)]
    return _Placed(new, new.flow_id or deployment.flow_id, new.idempotency_key, deployment.work_queue_name, tags)


def _blank(new: _Placed, now: str) -> FlowRunRecord:
    """The run as it is before its first state."""
    wanted = new.wanted
    return FlowRunRecord(
        id=new_id(),
        created=now,
        updated=now,
        name=wanted.name or make_up_name(),
        tags_json=to_json(list(new.tags)),
        state_id=None,
        state_type=None,
        state_name=None,
        state_timestamp=None,
        run_count=0,
        expected_start_time=None,
        next_scheduled_start_time=None,
        start_time=None,
        end_time=None,
        total_run_time_seconds=0.0,
        flow_id=new.flow_id,
        deployment_id=wanted.deployment_id,
        work_queue_name=new.work_queue_name,
        flow_version=wanted.flow_version,
        idempotency_key=wanted.idempotency_key,
        parameters=wanted.parameters,
        context=wanted.context,
        retries=wanted.policy.retries,
        retry_delay_seconds=wanted.policy.retry_delay_seconds,
        pause_keys_json="[]",
        resuming=False,
        parent_task_run_id=wanted.parent_task_run_id,
    )


def delete_flow_runs(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete the flow runs with their task runs. NotFound for one that is not there."""
    there = flow_runs.existing_flow_runs(connection, ids)
    freed = concurrency_limits.tags_held_by_flow_runs(connection, ids)
    flow_runs.delete_flow_runs(connection, ids)
    make_due_for_slots(connection, freed)
    return deletions("flow run", ids, there)


def read_flow_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> tuple[Row | None, str]:
    """The columns that `paths` name of one flow run, None where none has this id; and when that was."""
    return flow_runs.flow_run_row(connection, id, paths), connection.now


def read_flow_runs(connection: Connection, ids: Sequence[str]) -> list[FlowRunRecord | None]:
    found = flow_runs.flow_runs_by_id(connection, ids)
    return [found.get(id) for id in ids]


def read_child_flow_runs(connection: Connection, task_run_ids: Sequence[str]) -> list[FlowRunRecord | None]:
    """The flow run that each of these task runs stands for."""
    found = flow_runs.flow_runs_by_parent(connection, task_run_ids)
    return [found.get(id) for id in task_run_ids]


def read_histories(connection: Connection, ids: Sequence[str]) -> list[list[StateRecord]]:
    """The states that each of these flow runs has had, oldest first."""
    found = states.flow_run_histories(connection, ids)
    return [found[id] for id in ids]
