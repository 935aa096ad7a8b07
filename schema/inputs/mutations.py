"""Input objects of mutations, and their conversion into values for resolvers.

`path` is the path of the argument that an input was sent in. Errors use it to name the invalid field.
"""

import strawberry

from db.records import FlowRunPolicy, StateDetails, TaskRunPolicy
from db.runtime.ids import new_id
from resolvers.errors import BadInput
from resolvers.flow_runs import NewFlowRun
from resolvers.flows import NewDeployment, NewFlow
from resolvers.orchestration.transition import ProposedState
from resolvers.task_runs import DEFAULT_STATE, NewTaskRun, TaskRunUpdate
from resolvers.transitions.set_states import StateChange
from schema.enums import StateType
from schema.inputs.arguments import (
    MAX_STATE_CACHE_KEY_BYTES,
    parse_id,
    parse_optional_id,
    serialize_json_object,
    serialize_optional_json,
    validate_key,
    validate_name,
    validate_optional_key,
)
from schema.inputs.task_inputs import parse_task_inputs
from schema.scalars import JSON, DateTime

MAX_CACHE_KEY_LENGTH = 2000
MAX_RETRY_DELAYS = 50


@strawberry.input(description="What a state carries beside its type and name. Leave out what does not apply.")
class StateDetailsInput:
    scheduled_time: DateTime | None = strawberry.field(
        default=None, description="When the run is to start. A SCHEDULED state without it is due at once."
    )
    cache_key: str | None = strawberry.field(
        default=None,
        description="On RUNNING: take the result kept under this key, if there is one. On COMPLETED: keep the result.",
    )
    cache_expiration: DateTime | None = strawberry.field(
        default=None, description="On COMPLETED: until when the result may be reused; left out, for ever."
    )
    refresh_cache: bool | None = strawberry.field(
        default=None, description="On RUNNING: run even if a result is kept under the key."
    )
    transition_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Your name for this change, a UUID. Sent again, the change is not made again: you get its state.",
    )
    pause_timeout: DateTime | None = strawberry.field(default=None, description="When the pause turns into a failure.")
    pause_reschedule: bool | None = strawberry.field(
        default=None, description="Whether the process ends during the pause and is started again."
    )
    pause_key: str | None = strawberry.field(default=None, description="Names the pause, so that it is taken once.")
    retriable: bool | None = strawberry.field(default=None, description="On FAILED: false forbids to retry it.")
    untrackable_result: bool | None = strawberry.field(
        default=None, description="Whether the result can not be told from others."
    )
    task_parameters_id: strawberry.ID | None = strawberry.field(
        default=None, description="Where the task's parameters are kept, a UUID."
    )
    child_flow_run_id: strawberry.ID | None = strawberry.field(
        default=None, description="The subflow that this task run stands for."
    )

    def parse(self, path: str) -> StateDetails:
        return StateDetails(
            scheduled_time=self.scheduled_time,
            cache_key=validate_optional_key(f"{path}.cacheKey", self.cache_key, MAX_STATE_CACHE_KEY_BYTES),
            cache_expiration=self.cache_expiration,
            refresh_cache=self.refresh_cache,
            transition_id=parse_optional_id(f"{path}.transitionId", self.transition_id),
            pause_timeout=self.pause_timeout,
            pause_reschedule=bool(self.pause_reschedule),
            pause_key=self.pause_key,
            retriable=self.retriable,
            untrackable_result=bool(self.untrackable_result),
            task_parameters_id=parse_optional_id(f"{path}.taskParametersId", self.task_parameters_id),
            child_flow_run_id=parse_optional_id(f"{path}.childFlowRunId", self.child_flow_run_id),
        )


@strawberry.input(description="A state that you propose for a run.")
class StateInput:
    type: StateType = strawberry.field(description="What kind of state.")
    name: str | None = strawberry.field(
        default=None, description="What to call it; left out, the type's own name (`Running`)."
    )
    message: str | None = strawberry.field(default=None, description="What you have to say about it.")
    data: JSON | None = strawberry.field(
        default=None,
        description="Your result, or anything else. A COMPLETED run with data stays COMPLETED, "
        'unless the data is empty or an object with `"type": "unpersisted"`.',
    )
    details: StateDetailsInput | None = strawberry.field(default=None, description="What it carries beside these.")

    def parse(self, path: str) -> ProposedState:
        return ProposedState(
            type=self.type,
            name=self.type.default_name if self.name is None else self.name,
            message=self.message,
            data=serialize_optional_json(f"{path}.data", self.data),
            details=self.details.parse(f"{path}.details") if self.details else StateDetails(),
        )


@strawberry.input(description="How often, and after how long, a failed task run is tried again.")
class TaskRunPolicyInput:
    retries: int | None = strawberry.field(
        default=None, description="How many times it is tried again; left out or negative, never."
    )
    retry_delay_seconds: list[float] | None = strawberry.field(
        default=None,
        description="One delay for every retry, or up to 50, one for each; the last one serves for the rest.",
    )
    retry_jitter_factor: float | None = strawberry.field(
        default=None, description="At least 0: how far a delay may be drawn out by chance, up to delay × (1 + factor)."
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


@strawberry.input(description="A task run to create.")
class TaskRunCreateInput:
    task_key: str = strawberry.field(
        description="Which task it is a run of. Workers subscribe to background runs by this key."
    )
    dynamic_key: str | None = strawberry.field(
        default=None,
        description="Tells runs of one task apart; the same one again answers the run that is there. "
        "Left out: a fresh one, so every call makes a run.",
    )
    flow_run_id: strawberry.ID | None = strawberry.field(
        default=None, description="The flow run it belongs to; left out, it is a background run."
    )
    name: str | None = strawberry.field(default=None, description="What to call it; left out or empty, one is made up.")
    task_version: str | None = strawberry.field(default=None, description="The task's version, for your information.")
    cache_key: str | None = strawberry.field(
        default=None, description="For your information, up to 2,000 characters; caching goes by the key in the state."
    )
    cache_expiration: DateTime | None = strawberry.field(default=None, description="For your information.")
    empirical_policy: TaskRunPolicyInput | None = strawberry.field(
        default=None, description="How it is retried; left out, it is not."
    )
    tags: list[str] | None = strawberry.field(default=None, description="Words to find and to limit runs by.")
    task_inputs: JSON | None = strawberry.field(
        default=None,
        description="Where each parameter of the task comes from: a JSON object from its name to a list of "
        '`{"input_type": "task_run", "id": …}`, `{"input_type": "parameter", "name": …}` or '
        '`{"input_type": "constant", "type": …}`. For your information.',
    )
    parameters: JSON | None = strawberry.field(
        default=None, description="What the worker is to run the task with; handed over with every delivery."
    )
    state: StateInput | None = strawberry.field(
        default=None,
        description="Its first state; left out, PENDING. SCHEDULED queues a background run for workers.",
    )

    def parse(self, path: str) -> NewTaskRun:
        if self.cache_key is not None and len(self.cache_key) > MAX_CACHE_KEY_LENGTH:
            raise BadInput(
                f"{path}.cacheKey",
                f"must have at most {MAX_CACHE_KEY_LENGTH:,} characters; got {len(self.cache_key):,}.",
            )
        policy = self.empirical_policy
        return NewTaskRun(
            task_key=validate_key(f"{path}.taskKey", self.task_key),
            dynamic_key=new_id() if self.dynamic_key is None else validate_key(f"{path}.dynamicKey", self.dynamic_key),
            flow_run_id=parse_optional_id(f"{path}.flowRunId", self.flow_run_id),
            name=self.name,
            task_version=self.task_version,
            cache_key=self.cache_key,
            cache_expiration=self.cache_expiration,
            policy=policy.parse(f"{path}.empiricalPolicy") if policy else TaskRunPolicy(),
            tags=self.tags or (),
            task_inputs=parse_task_inputs(f"{path}.taskInputs", self.task_inputs),
            parameters=serialize_optional_json(f"{path}.parameters", self.parameters),
            state=self.state.parse(f"{path}.state") if self.state else DEFAULT_STATE,
        )


@strawberry.input(description="What to change about a task run.")
class TaskRunUpdateInput:
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="The new name; null or empty makes up a fresh one. Left out, it stays."
    )

    def parse(self, id: str) -> TaskRunUpdate:
        return TaskRunUpdate(id, None if self.name is strawberry.UNSET else self.name or "")


@strawberry.input(description="A state that you propose for one of several task runs.")
class TaskRunStateChangeInput:
    id: strawberry.ID = strawberry.field(description="The task run.")
    state: StateInput = strawberry.field(description="The state.")
    force: bool | None = strawberry.field(default=False, description="Take the state without asking the rules.")
    lease_id: strawberry.ID | None = strawberry.field(
        default=None, description="The lease that you have the run under; a lost one changes nothing."
    )

    def parse(self, path: str) -> StateChange:
        return StateChange(
            parse_id(f"{path}.id", self.id),
            self.state.parse(f"{path}.state"),
            bool(self.force),
            parse_optional_id(f"{path}.leaseId", self.lease_id),
        )


@strawberry.input(description="A flow to create.")
class FlowCreateInput:
    name: str = strawberry.field(description="Unique; may not contain / % & > <")
    tags: list[str] | None = strawberry.field(default=None, description="Words to find it by.")

    def parse(self, path: str) -> NewFlow:
        return NewFlow(validate_name(f"{path}.name", self.name), self.tags or ())


@strawberry.input(description="A deployment to create.")
class DeploymentCreateInput:
    name: str = strawberry.field(description="Unique within its flow; may not contain / % & > <")
    flow_id: strawberry.ID = strawberry.field(description="The flow that it runs.")
    tags: list[str] | None = strawberry.field(default=None, description="Words to find it by; its flow runs get them.")
    is_schedule_active: bool | None = strawberry.field(
        default=True, description="Whether its schedule makes flow runs."
    )
    work_queue_name: str | None = strawberry.field(default=None, description="The work queue for its flow runs.")

    def parse(self, path: str) -> NewDeployment:
        return NewDeployment(
            name=validate_name(f"{path}.name", self.name),
            flow_id=parse_id(f"{path}.flowId", self.flow_id),
            tags=self.tags or (),
            is_schedule_active=self.is_schedule_active is not False,
            work_queue_name=self.work_queue_name,
        )


@strawberry.input(description="How often, and after how long, a failed flow run is tried again.")
class FlowRunPolicyInput:
    retries: int | None = strawberry.field(
        default=None, description="How many times it is tried again; left out, never."
    )
    retry_delay_seconds: float | None = strawberry.field(
        default=None, description="How long to wait before each retry."
    )

    def parse(self) -> FlowRunPolicy:
        return FlowRunPolicy(self.retries, self.retry_delay_seconds)


@strawberry.input(
    description="A flow run to create. With a deployment, the run takes over its work queue name, and the deployment's "
    "tags are joined to its own."
)
class FlowRunCreateInput:
    flow_id: strawberry.ID | None = strawberry.field(
        default=None, description="The flow. May be left out with a `deploymentId`: the deployment's flow."
    )
    deployment_id: strawberry.ID | None = strawberry.field(default=None, description="The deployment it is run from.")
    name: str | None = strawberry.field(default=None, description="What to call it; left out or empty, one is made up.")
    tags: list[str] | None = strawberry.field(default=None, description="Words to find runs by.")
    parameters: JSON | None = strawberry.field(default=None, description="A JSON object: what the flow is called with.")
    context: JSON | None = strawberry.field(
        default=None, description="A JSON object: whatever else you want to keep with it."
    )
    flow_version: str | None = strawberry.field(default=None, description="The flow's version, for your information.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same one again, for the same flow, answers the run that is there."
    )
    parent_task_run_id: strawberry.ID | None = strawberry.field(
        default=None, description="The task run that stands for this run in its parent, where it is a subflow."
    )
    empirical_policy: FlowRunPolicyInput | None = strawberry.field(
        default=None, description="How it is retried; left out, it is not."
    )
    state: StateInput | None = strawberry.field(default=None, description="Its first state; left out, PENDING.")

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
            policy=self.empirical_policy.parse() if self.empirical_policy else FlowRunPolicy(),
            state=self.state.parse(f"{path}.state") if self.state else DEFAULT_STATE,
        )
