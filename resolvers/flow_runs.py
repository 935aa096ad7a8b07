"""Flow runs: create, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection, FlowRunsDeleted, Row
from db.records import DeploymentRecord, FlowRecord, FlowRunPolicy, FlowRunRecord, JsonText, StateRecord, to_json
from db.runtime.ids import new_id
from db.statements import concurrency_limits, flow_runs, flows, states, task_runs
from resolvers.actor import request_actor
from resolvers.errors import BadInput, NotFound, deletion_results
from resolvers.names import generate_name
from resolvers.orchestration.decide import decide
from resolvers.orchestration.policy import flow_run_policy
from resolvers.orchestration.transition import ProposedState, Transition
from resolvers.queue.slot_waiters import wake_waiters_of_tags
from resolvers.task_runs import DEFAULT_STATE
from resolvers.transitions.set_states import copy_states_to_parent_task_runs, enter_flow_run_state


@dataclass(frozen=True, slots=True)
class NewFlowRun:
    """A flow run to create. At least one of `flow_id` and `deployment_id` is required."""

    flow_id: str | None = None
    deployment_id: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    parameters: JsonText = "{}"
    context: JsonText = "{}"
    flow_version: str | None = None
    idempotency_key: str | None = None
    parent_task_run_id: str | None = None
    retry_policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    state: ProposedState = DEFAULT_STATE
    actor: str | None = field(default_factory=request_actor.get)
    """The client that creates the run; None when the server creates it."""


@dataclass(frozen=True, slots=True)
class CreatedFlowRun:
    """The new flow run, or the existing flow run with the same idempotency key."""

    flow_run: FlowRunRecord
    created: bool


def create_flow_runs(connection: Connection, new_runs: Sequence[NewFlowRun]) -> list[CreatedFlowRun | Exception]:
    """Create flow runs, or return the existing flow runs with the same flow and idempotency key unchanged.

    The first state is set without applying the rules. A flow run of a deployment has the deployment's work queue name,
    its flow unless `flow_id` is set, and its tags followed by the tags of the run. Returns NotFound when the flow,
    deployment or parent task run does not exist.
    """
    references = _load_references(connection, new_runs)
    resolved = [_resolve(new, references) for new in new_runs]
    keys = [
        (new.flow_id, new.idempotency_key)
        for new in resolved
        if isinstance(new, _ResolvedFlowRun) and new.idempotency_key is not None
    ]
    by_key = flow_runs.flow_runs_by_key(connection, keys) if keys else {}
    results: list[CreatedFlowRun | Exception] = []
    created: list[FlowRunRecord] = []
    for new in resolved:
        if isinstance(new, Exception):
            results.append(new)
            continue
        key = (new.flow_id, new.idempotency_key or "")
        if new.idempotency_key is not None and key in by_key:
            results.append(CreatedFlowRun(by_key[key], created=False))
            continue
        run = _build_flow_run(new, connection.now)
        decision = decide(flow_run_policy(forced=True), Transition(run, new.request.state, connection.now))
        enter_flow_run_state(run, decision, connection.now, actor=new.request.actor)
        created.append(run)
        if new.idempotency_key is not None:
            by_key[key] = run
        results.append(CreatedFlowRun(run, created=True))
    flow_runs.insert_flow_runs(connection, created)
    states.insert_flow_run_states(connection, [run.state for run in created if run.state])
    copy_states_to_parent_task_runs(connection, created)
    return results


@dataclass(frozen=True, slots=True)
class _References:
    """The existing objects that the new flow runs refer to."""

    flows: dict[str, FlowRecord]
    deployments: dict[str, DeploymentRecord]
    task_runs: set[str]


@dataclass(frozen=True, slots=True)
class _ResolvedFlowRun:
    """A flow run to create whose references exist, with the values of its deployment."""

    request: NewFlowRun
    flow_id: str
    idempotency_key: str | None
    work_queue_name: str | None
    tags: Sequence[str]


def _load_references(connection: Connection, new_runs: Sequence[NewFlowRun]) -> _References:
    deployment_ids = [each.deployment_id for each in new_runs if each.deployment_id is not None]
    parent_ids = [each.parent_task_run_id for each in new_runs if each.parent_task_run_id is not None]
    flow_ids = [each.flow_id for each in new_runs if each.flow_id is not None]
    return _References(
        flows=flows.flows_by_id(connection, flow_ids) if flow_ids else {},
        deployments=flows.deployments_by_id(connection, deployment_ids) if deployment_ids else {},
        task_runs=task_runs.existing_task_runs(connection, parent_ids) if parent_ids else set(),
    )


def _resolve(new: NewFlowRun, references: _References) -> _ResolvedFlowRun | Exception:
    if new.flow_id is not None and new.flow_id not in references.flows:
        return NotFound("flowId", "flow", new.flow_id)
    if new.parent_task_run_id is not None and new.parent_task_run_id not in references.task_runs:
        return NotFound("parentTaskRunId", "task run", new.parent_task_run_id)
    if new.deployment_id is None:
        assert new.flow_id is not None
        return _ResolvedFlowRun(new, new.flow_id, new.idempotency_key, None, new.tags)
    deployment = references.deployments.get(new.deployment_id)
    if deployment is None:
        return NotFound("deploymentId", "deployment", new.deployment_id)
    if new.flow_id not in (None, deployment.flow_id):
        return BadInput("flowId", f"must be {deployment.flow_id}, the flow of the deployment; got {new.flow_id}.")
    tags = [*deployment.tags, *(tag for tag in new.tags if tag not in deployment.tags)]
    return _ResolvedFlowRun(
        new, new.flow_id or deployment.flow_id, new.idempotency_key, deployment.work_queue_name, tags
    )


def _build_flow_run(new: _ResolvedFlowRun, now: str) -> FlowRunRecord:
    """Build the record of a flow run that has no state yet."""
    request = new.request
    return FlowRunRecord(
        id=new_id(now),
        created=now,
        updated=now,
        name=request.name or generate_name(),
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
        deployment_id=request.deployment_id,
        work_queue_name=new.work_queue_name,
        flow_version=request.flow_version,
        idempotency_key=request.idempotency_key,
        parameters=request.parameters,
        context=request.context,
        retries=request.retry_policy.retries,
        retry_delay_seconds=request.retry_policy.retry_delay_seconds,
        pause_keys_json="[]",
        resuming=False,
        parent_task_run_id=request.parent_task_run_id,
    )


def delete_flow_runs(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete flow runs together with their task runs. Returns NotFound for an unknown id."""
    existing_ids = flow_runs.existing_flow_runs(connection, ids)
    freed = concurrency_limits.tags_held_by_flow_runs(connection, ids)
    flow_runs.delete_flow_runs(connection, ids)
    wake_waiters_of_tags(connection, freed)
    connection.notify([FlowRunsDeleted()])
    return deletion_results("flow run", ids, existing_ids)


def read_flow_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> tuple[Row | None, str]:
    """Return the columns of `paths` for one flow run, and the time of the read.

    The row is None if no flow run has the id.
    """
    return flow_runs.flow_run_row(connection, id, paths), connection.now


def read_flow_runs(connection: Connection, ids: Sequence[str]) -> list[FlowRunRecord | None]:
    found = flow_runs.flow_runs_by_id(connection, ids)
    return [found.get(id) for id in ids]


def read_child_flow_runs(connection: Connection, task_run_ids: Sequence[str]) -> list[FlowRunRecord | None]:
    """Return the subflow run that each of these task runs represents; None if it represents none."""
    found = flow_runs.flow_runs_by_parent(connection, task_run_ids)
    return [found.get(id) for id in task_run_ids]


def read_histories(connection: Connection, ids: Sequence[str]) -> list[list[StateRecord]]:
    """Return the states of each of these flow runs, oldest first."""
    found = states.flow_run_histories(connection, ids)
    return [found[id] for id in ids]
