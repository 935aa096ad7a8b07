"""Input objects of mutations, and their conversion into values for resolvers.

`path` is the path of the argument that an input was sent in. Errors use it to name the invalid field.
"""

from typing import Annotated
from uuid import uuid4

import strawberry

from db.records import FlowRunPolicy, StateDetails, TaskRunPolicy
from resolvers.delivery.claim import MAX_CLAIM_SIZE, Demand
from resolvers.errors import BadInput
from resolvers.flow_runs import NewFlowRun
from resolvers.flows import NewDeployment, NewFlow
from resolvers.orchestration.transition import ProposedState
from resolvers.task_runs import DEFAULT_STATE, NewTaskRun
from resolvers.trace_context import trace_parent as request_trace_parent
from resolvers.transitions.set_states import StateChange
from schema.enums import StateType
from schema.inputs.arguments import (
    CLAIM_LIMIT_DESCRIPTION,
    LEASE_SECONDS_DESCRIPTION,
    MAX_LEASE_SECONDS,
    MAX_STATE_CACHE_KEY_BYTES,
    TASK_KEYS_DESCRIPTION,
    WORKER_NAME_DESCRIPTION,
    parse_id,
    parse_optional_id,
    serialize_json_object,
    serialize_optional_json,
    validate_count,
    validate_key,
    validate_name,
    validate_optional_key,
    validate_seconds,
    validate_task_keys,
    validate_trace_parent,
)
from schema.inputs.task_inputs import parse_task_inputs
from schema.inputs.task_run_fields import (
    first_state,
    serialize_metadata,
    validate_delay,
    validate_expiry,
    validate_priority,
    validate_time_limit,
)
from schema.scalars import JSON, DateTime

MAX_CACHE_KEY_LENGTH = 2000
MAX_RETRY_DELAYS = 50


@strawberry.input(description="Details of a state besides its type and name. All fields are optional.")
class StateDetailsInput:
    scheduled_time: DateTime | None = strawberry.field(
        default=None,
        description="Time at which the run is scheduled to start. Defaults to the current time for a SCHEDULED state.",
    )
    cache_key: str | None = strawberry.field(
        default=None,
        description="Key in the result cache, at most 2,000 bytes. A run that proposes RUNNING becomes COMPLETED "
        "(`Cached`) if a result is cached under the key; COMPLETED stores its result under it. The cache is "
        "not used for flow runs, with `force`, or for the first state of a task run in a flow run.",
    )
    cache_expires_at: DateTime | None = strawberry.field(
        default=None,
        description="Time at which the result that a COMPLETED state stores under `cacheKey` expires. Defaults to never.",
    )
    refresh_cache: bool | None = strawberry.field(
        default=None,
        description="Whether to become RUNNING even if a result is cached under `cacheKey`. Defaults to false.",
    )
    transition_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Idempotency key of this state change, a UUID. If the run already has a state with this key, nothing "
        "changes and that state is returned. Repeating PENDING or RUNNING under a lost lease returns ABORT "
        "instead.",
    )
    pause_timeout_at: DateTime | None = strawberry.field(
        default=None,
        description="Deadline for resuming a PAUSED flow run. Within 5 seconds after it, the flow run becomes FAILED; "
        "until then, a proposed state is rejected or replaced by FAILED, except with `force`. Defaults to no deadline.",
    )
    pause_reschedule: bool | None = strawberry.field(
        default=None,
        description="Whether the process of a PAUSED flow run exits and is started again to resume. Defaults to false. "
        "Not possible for subflows and for flow runs without a deployment (ABORT).",
    )
    pause_key: str | None = strawberry.field(
        default=None,
        description="Key of the pause of a flow run. Proposing PAUSED with a key that was used since the flow run was "
        "last retried or restarted returns REJECT. Defaults to a generated key.",
    )
    retriable: bool | None = strawberry.field(
        default=None,
        description="Whether a FAILED task run is retried according to its retry policy. Defaults to true. Ignored for "
        "flow runs.",
    )
    untrackable_result: bool | None = strawberry.field(
        default=None,
        description="Whether clients cannot trace the result back to this run, as for null or Boolean values. Defaults "
        "to false. Stored for clients; the server does not use it.",
    )
    task_parameters_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the task's parameters in the client's storage, a UUID. Stored for clients; the server does "
        "not use it.",
    )
    child_flow_run_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the subflow that the task run represents. A SCHEDULED state with this id is not queued for "
        "workers.",
    )

    def parse(self, path: str) -> StateDetails:
        return StateDetails(
            scheduled_time=self.scheduled_time,
            cache_key=validate_optional_key(f"{path}.cacheKey", self.cache_key, MAX_STATE_CACHE_KEY_BYTES),
            cache_expires_at=self.cache_expires_at,
            refresh_cache=self.refresh_cache,
            transition_id=parse_optional_id(f"{path}.transitionId", self.transition_id),
            pause_timeout_at=self.pause_timeout_at,
            pause_reschedule=bool(self.pause_reschedule),
            pause_key=self.pause_key,
            retriable=self.retriable,
            untrackable_result=bool(self.untrackable_result),
            task_parameters_id=parse_optional_id(f"{path}.taskParametersId", self.task_parameters_id),
            child_flow_run_id=parse_optional_id(f"{path}.childFlowRunId", self.child_flow_run_id),
        )


@strawberry.input(description="State proposed for a run.")
class StateInput:
    type: StateType = strawberry.field(description="Type of the state.")
    name: str | None = strawberry.field(
        default=None,
        description="Name of the state. Defaults to the name of its type, such as `Running`. SCHEDULED states of "
        "background runs that are named `AwaitingRetry` or `AwaitingRedelivery` are queued on the retry side.",
    )
    message: str | None = strawberry.field(default=None, description="Message for people, such as an error message.")
    data: JSON | None = strawberry.field(
        default=None,
        description="Result of the run, or any other JSON value. A run that is COMPLETED with data can start again only "
        'with `force`, unless the data is empty, 0, `false` or an object with `"type": "unpersisted"`.',
    )
    details: StateDetailsInput | None = strawberry.field(
        default=None, description="Details of the state, such as its scheduled time."
    )

    def parse(self, path: str) -> ProposedState:
        return ProposedState(
            type=self.type,
            name=self.type.default_name if self.name is None else self.name,
            message=self.message,
            data=serialize_optional_json(f"{path}.data", self.data),
            details=self.details.parse(f"{path}.details") if self.details else StateDetails(),
        )


StateArgument = Annotated[StateInput, strawberry.argument(description="Proposed state.")]


@strawberry.input(description="Retry policy of a task run.")
class TaskRunPolicyInput:
    retries: int | None = strawberry.field(
        default=None,
        description="Maximum number of retries after failures and lost workers. Defaults to no retries. A negative "
        "number also means no retries.",
    )
    retry_delay_seconds: list[float] | None = strawberry.field(
        default=None,
        description="Delays before retries in seconds: one for all retries, or up to 50, one for each retry. The last "
        "delay applies to all further retries. Defaults to no delay.",
    )
    retry_jitter_factor: float | None = strawberry.field(
        default=None,
        description="Random variation of the delays, at least 0: each delay is at most delay × (1 + factor). Defaults to "
        "no variation.",
    )

    def parse(self, path: str) -> TaskRunPolicy:
        delays, jitter = self.retry_delay_seconds, self.retry_jitter_factor
        if delays is not None and len(delays) > MAX_RETRY_DELAYS:
            raise BadInput(
                f"{path}.retryDelaySeconds", f"must have at most {MAX_RETRY_DELAYS} delays; got {len(delays):,}."
            )
        if jitter is not None and jitter < 0:
            raise BadInput(f"{path}.retryJitterFactor", f"must be at least 0; got {jitter:g}.")
        return TaskRunPolicy(self.retries, delays, jitter)


@strawberry.input(description="Task run to create.")
class TaskRunCreateInput:
    task_key: str = strawberry.field(
        description="Key of the task that is executed, at most 1,000 bytes. Workers subscribe to background runs by this "
        "key."
    )
    dynamic_key: str | None = strawberry.field(
        default=None,
        description="Key that distinguishes runs of one task key, at most 1,000 bytes. Defaults to a generated key, "
        "which creates a new run. With the same `flowRunId`, `taskKey` and `dynamicKey`, the existing "
        "run is returned unchanged, even if it has ended.",
    )
    flow_run_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the flow run. Defaults to null, for a background run. Fails with `NOT_FOUND` when the flow run "
        "does not exist.",
    )
    name: str | None = strawberry.field(
        default=None,
        description="Name of the run, which need not be unique. Defaults to a generated name, as does an empty name.",
    )
    task_version: str | None = strawberry.field(
        default=None, description="Version of the task. Stored for clients; the server does not use it."
    )
    cache_key: str | None = strawberry.field(
        default=None,
        description="Cache key for information, at most 2,000 characters. The result cache uses "
        "`StateDetailsInput.cacheKey` instead.",
    )
    cache_expires_at: DateTime | None = strawberry.field(
        default=None,
        description="Time of cache expiration, for information. The result cache uses `StateDetailsInput.cacheExpiresAt` "
        "instead.",
    )
    retry_policy: TaskRunPolicyInput | None = strawberry.field(
        default=None, description="Retry policy. Defaults to no retries."
    )
    tags: list[str] | None = strawberry.field(
        default=None, description="Tags of the run. Filters select by tags, and concurrency limits apply to tags."
    )
    task_inputs: JSON | None = strawberry.field(
        default=None,
        description="Sources of the task's parameters: a JSON object that maps the name of each parameter to a list of "
        '`{"input_type": "task_run", "id": …}`, `{"input_type": "parameter", "name": …}` or `{"input_type": '
        '"constant", "type": …}`. Defaults to an empty object. The server checks the form and does not use '
        "the values.",
    )
    parameters: JSON | None = strawberry.field(
        default=None,
        description="Values that the task is executed with: any JSON value. Defaults to null. Workers read them from "
        "`ScheduledTaskRun.taskRun.parameters`.",
    )
    state: StateInput | None = strawberry.field(
        default=None,
        description="First state of the run. Defaults to PENDING, or with `delaySeconds` to SCHEDULED. A SCHEDULED "
        "background run is queued for workers; creation fails with `CONFLICT` when the rules do not accept the state.",
    )
    delay_seconds: float | None = strawberry.field(
        default=None,
        description="Time from the creation to the scheduled time of the run, in seconds by the clock of the server, 0 to "
        "315,360,000 (ten years). Defaults to no delay. Cannot be combined with a state that is not SCHEDULED, or that "
        "has a `scheduledTime`.",
    )
    priority: int = strawberry.field(
        default=0,
        description="Priority of the run in the queue of its task key, -10 to 10. Defaults to 0. Has no effect on a task "
        "run of a flow run.",
    )
    expires_at: DateTime | None = strawberry.field(
        default=None,
        description="Time at which the run expires unless it has started, in the future. Defaults to null, for never. "
        "Cannot be combined with `flowRunId`.",
    )
    timeout_seconds: float | None = strawberry.field(
        default=None,
        description="Time limit in seconds, 1 to 31,536,000 (a year), counted from the first RUNNING under each lease. "
        "Defaults to null, for no limit. A run that exceeds it becomes FAILED (`TimedOut`) or is retried, and its lease is "
        "LOST. Has no effect on a task run of a flow run.",
    )
    unique_key: str | None = strawberry.field(
        default=None,
        description="Key that at most one run of the `taskKey` that has not ended has, at most 1,000 bytes. Defaults to "
        "null, for no limit. While a run holds the key, creating another one returns it unchanged.",
    )
    metadata: JSON | None = strawberry.field(
        default=None,
        description="Data for people and programs: a JSON object of at most 64 KiB. Defaults to null. Workers do not "
        "need it, and `updateTaskRun` replaces it.",
    )
    trace_parent: str | None = strawberry.field(
        default=None,
        description="W3C Trace Context (`traceparent`, version 00) that the run belongs to. Defaults to that of the "
        "request. Workers read it from `TaskRun.traceParent`.",
    )

    def parse(self, path: str) -> NewTaskRun:
        if self.cache_key is not None and len(self.cache_key) > MAX_CACHE_KEY_LENGTH:
            raise BadInput(
                f"{path}.cacheKey",
                f"must have at most {MAX_CACHE_KEY_LENGTH:,} characters; got {len(self.cache_key):,}.",
            )
        state = self.state.parse(f"{path}.state") if self.state else None
        delay_seconds = validate_delay(f"{path}.delaySeconds", self.delay_seconds, state)
        return NewTaskRun(
            task_key=validate_key(f"{path}.taskKey", self.task_key),
            dynamic_key=str(uuid4())
            if self.dynamic_key is None
            else validate_key(f"{path}.dynamicKey", self.dynamic_key),
            flow_run_id=parse_optional_id(f"{path}.flowRunId", self.flow_run_id),
            name=self.name,
            task_version=self.task_version,
            cache_key=self.cache_key,
            cache_expires_at=self.cache_expires_at,
            retry_policy=self.retry_policy.parse(f"{path}.retryPolicy") if self.retry_policy else TaskRunPolicy(),
            tags=self.tags or (),
            task_inputs=parse_task_inputs(f"{path}.taskInputs", self.task_inputs),
            parameters=serialize_optional_json(f"{path}.parameters", self.parameters),
            state=first_state(state, delay_seconds, DEFAULT_STATE),
            delay_seconds=delay_seconds,
            priority=validate_priority(f"{path}.priority", self.priority),
            expires_at=validate_expiry(f"{path}.expiresAt", self.expires_at, in_flow_run=self.flow_run_id is not None),
            timeout_seconds=validate_time_limit(f"{path}.timeoutSeconds", self.timeout_seconds),
            unique_key=validate_optional_key(f"{path}.uniqueKey", self.unique_key),
            metadata=serialize_metadata(f"{path}.metadata", self.metadata),
            trace_parent=request_trace_parent.get()
            if self.trace_parent is None
            else validate_trace_parent(f"{path}.traceParent", self.trace_parent),
        )


@strawberry.input(description="State proposed for one of several task runs.")
class TaskRunStateChangeInput:
    task_run_id: strawberry.ID = strawberry.field(description="Id of the task run.")
    state: StateInput = strawberry.field(description="Proposed state.")
    force: bool = strawberry.field(
        default=False,
        description="Whether to set the state without applying orchestration rules. Defaults to false; true requires "
        "the scope `write`. Has no effect when `leaseId` has expired or is not the run's current lease.",
    )
    lease_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the lease that the worker holds on the run. Naming it acknowledges the delivery. Nothing "
        "changes when the lease is no longer held. Without it, the scope `write` is required.",
    )

    def parse(self, path: str) -> StateChange:
        return StateChange(
            parse_id(f"{path}.taskRunId", self.task_run_id),
            self.state.parse(f"{path}.state"),
            self.force,
            parse_optional_id(f"{path}.leaseId", self.lease_id),
        )


@strawberry.input(description="Task runs to claim in an exchange, of those that are due now.")
class ClaimInput:
    task_keys: list[str] = strawberry.field(description=TASK_KEYS_DESCRIPTION)
    limit: int = strawberry.field(default=1, description=CLAIM_LIMIT_DESCRIPTION)
    lease_seconds: float = strawberry.field(default=60, description=LEASE_SECONDS_DESCRIPTION)
    worker_name: str | None = strawberry.field(default=None, description=WORKER_NAME_DESCRIPTION)
    start: bool = strawberry.field(
        default=False,
        description="Whether the claim sets RUNNING, as `start` of `claimTaskRuns` does. Defaults to false.",
    )

    def parse(self, path: str) -> Demand:
        """Return what to claim. The dispatcher sets the number of the subscriber."""
        return Demand(
            subscriber=0,
            task_keys=frozenset(validate_task_keys(f"{path}.taskKeys", self.task_keys)),
            credit=validate_count(f"{path}.limit", self.limit, minimum=1, maximum=MAX_CLAIM_SIZE),
            lease_seconds=validate_seconds(
                f"{path}.leaseSeconds", self.lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS
            ),
            worker_name=self.worker_name,
            starts=self.start,
        )


@strawberry.input(description="Flow to create.")
class FlowCreateInput:
    name: str = strawberry.field(
        description="Name of the flow, at most 1,000 bytes, unique. Must not contain `/`, `%`, `&`, `<` or `>`."
    )
    tags: list[str] | None = strawberry.field(default=None, description="Tags of the flow.")

    def parse(self, path: str) -> NewFlow:
        return NewFlow(validate_name(f"{path}.name", self.name), self.tags or ())


@strawberry.input(description="Deployment to create.")
class DeploymentCreateInput:
    name: str = strawberry.field(
        description="Name of the deployment, at most 1,000 bytes, unique within its flow. Must not contain `/`, `%`, "
        "`&`, `<` or `>`."
    )
    flow_id: strawberry.ID = strawberry.field(
        description="Id of the flow. Fails with `NOT_FOUND` when the flow does not exist."
    )
    tags: list[str] | None = strawberry.field(
        default=None, description="Tags of the deployment. They are copied to its flow runs."
    )
    is_schedule_active: bool = strawberry.field(
        default=True,
        description="Whether the deployment is marked as having an active schedule. Defaults to true. Runyard has no "
        "schedules: it stores the value and does not use it.",
    )
    work_queue_name: str | None = strawberry.field(
        default=None, description="Work queue name, copied to the deployment's flow runs. Defaults to null."
    )

    def parse(self, path: str) -> NewDeployment:
        return NewDeployment(
            name=validate_name(f"{path}.name", self.name),
            flow_id=parse_id(f"{path}.flowId", self.flow_id),
            tags=self.tags or (),
            is_schedule_active=self.is_schedule_active,
            work_queue_name=self.work_queue_name,
        )


@strawberry.input(description="Retry policy of a flow run.")
class FlowRunPolicyInput:
    retries: int | None = strawberry.field(
        default=None,
        description="Maximum number of retries after failures. Defaults to no retries. A negative number also means no "
        "retries.",
    )
    retry_delay_seconds: float | None = strawberry.field(
        default=None, description="Delay before each retry in seconds. Defaults to 0."
    )

    def parse(self) -> FlowRunPolicy:
        return FlowRunPolicy(self.retries, self.retry_delay_seconds)


@strawberry.input(
    description="Flow run to create. With a deployment, the flow run receives the deployment's work queue name and, "
    "before its own tags, the deployment's tags."
)
class FlowRunCreateInput:
    flow_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the flow, required without a `deploymentId`. Defaults to the flow of the deployment, and "
        "must not be another one. Fails with `NOT_FOUND` when the flow does not exist.",
    )
    deployment_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the deployment. Defaults to null. Fails with `NOT_FOUND` when the deployment does not exist.",
    )
    name: str | None = strawberry.field(
        default=None,
        description="Name of the flow run, which need not be unique. Defaults to a generated name, as does an empty name.",
    )
    tags: list[str] | None = strawberry.field(default=None, description="Tags of the flow run. Filters select by tags.")
    parameters: JSON | None = strawberry.field(
        default=None,
        description="Values that the flow is executed with, as a JSON object. Defaults to an empty object.",
    )
    context: JSON | None = strawberry.field(
        default=None,
        description="Additional data, as a JSON object. Defaults to an empty object. Stored for clients; the server does "
        "not use it.",
    )
    flow_version: str | None = strawberry.field(default=None, description="Version of the flow. Filters select by it.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="Idempotency key, at most 1,000 bytes. Creating a run with the same flow and key returns the "
        "existing run.",
    )
    parent_task_run_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Id of the task run that represents this flow run as a subflow. The state of the task run follows "
        "that of the flow run. Fails with `NOT_FOUND` when the task run does not exist.",
    )
    retry_policy: FlowRunPolicyInput | None = strawberry.field(
        default=None, description="Retry policy. Defaults to no retries."
    )
    state: StateInput | None = strawberry.field(
        default=None,
        description="First state of the flow run, set without applying orchestration rules. Defaults to PENDING.",
    )

    def parse(self, path: str) -> NewFlowRun:
        if self.flow_id is None and self.deployment_id is None:
            raise BadInput(path, "requires a flowId or a deploymentId.")
        return NewFlowRun(
            flow_id=parse_optional_id(f"{path}.flowId", self.flow_id),
            deployment_id=parse_optional_id(f"{path}.deploymentId", self.deployment_id),
            name=self.name,
            tags=self.tags or (),
            parameters=serialize_json_object(f"{path}.parameters", self.parameters),
            context=serialize_json_object(f"{path}.context", self.context),
            flow_version=self.flow_version,
            idempotency_key=validate_optional_key(f"{path}.idempotencyKey", self.idempotency_key),
            parent_task_run_id=parse_optional_id(f"{path}.parentTaskRunId", self.parent_task_run_id),
            retry_policy=self.retry_policy.parse() if self.retry_policy else FlowRunPolicy(),
            state=self.state.parse(f"{path}.state") if self.state else DEFAULT_STATE,
        )
