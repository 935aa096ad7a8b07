"""GraphQL types of mutation results and server information."""

import strawberry

from schema.enums import OrchestrationStatus
from schema.scalars import DateTime
from schema.types.flow_runs import FlowRun
from schema.types.flows import Deployment, Flow
from schema.types.states import State
from schema.types.task_runs import TaskRun


@strawberry.type(description="Result of creating a task run.")
class TaskRunCreatePayload:
    task_run: TaskRun = strawberry.field(description="New task run, or the existing task run with the same keys.")
    created: bool = strawberry.field(
        description=(
            "Whether a new task run was created. False when a task run with the same `flowRunId`, `taskKey` and "
            "`dynamicKey` already existed; it is returned unchanged."
        )
    )


@strawberry.type(description="Result of creating a flow.")
class FlowCreatePayload:
    flow: Flow = strawberry.field(description="New flow, or the existing flow with the same name.")
    created: bool = strawberry.field(
        description=(
            "Whether a new flow was created. False when a flow with the same `name` already existed; it is "
            "returned unchanged."
        )
    )


@strawberry.type(description="Result of creating a deployment.")
class DeploymentCreatePayload:
    deployment: Deployment = strawberry.field(
        description="New deployment, or the existing deployment with the same flow and name."
    )
    created: bool = strawberry.field(
        description=(
            "Whether a new deployment was created. False when a deployment with the same `flowId` and `name` "
            "already existed; it is returned unchanged."
        )
    )


@strawberry.type(description="Result of creating a flow run.")
class FlowRunCreatePayload:
    flow_run: FlowRun = strawberry.field(
        description="New flow run, or the existing flow run with the same flow and idempotency key."
    )
    created: bool = strawberry.field(
        description=(
            "Whether a new flow run was created. False when a flow run with the same `flowId` and "
            "`idempotencyKey` already existed; it is returned unchanged."
        )
    )


@strawberry.type(description="Result of setting a task run's state.")
class TaskRunOrchestrationResult:
    status: OrchestrationStatus = strawberry.field(description="Decision of the orchestration rules.")
    state: State | None = strawberry.field(
        description=(
            "State of the task run after the request. When the `transitionId` was used before, the state that it "
            "set then. Null when the task run has no state."
        )
    )
    reason: str | None = strawberry.field(description="Reason for the decision. Null for ACCEPT.")
    delay_seconds: float | None = strawberry.field(
        description="Delay before the state can be proposed again, in seconds. Null unless `status` is WAIT."
    )
    created: bool = strawberry.field(
        description="Whether this request set a new state: the proposed one, or another one instead."
    )
    task_run: TaskRun = strawberry.field(description="Task run after the request.")


@strawberry.type(description="Error of one item of a batch. The other items are not affected.")
class RowError:
    code: str = strawberry.field(description="Error code, as in `extensions.code` of a GraphQL error.")
    message: str = strawberry.field(description="Error message.")


@strawberry.type(
    description="Result of one item of `setTaskRunStates`. Exactly one of `result` and `error` is not null."
)
class TaskRunStateChangeResult:
    id: strawberry.ID = strawberry.field(description="Id of the task run.")
    result: TaskRunOrchestrationResult | None = strawberry.field(
        description="Result of setting the state. Null when `error` is set."
    )
    error: RowError | None = strawberry.field(
        description="Error of the item, with the code `NOT_FOUND` or `QUEUE_FULL`. Null when `result` is set."
    )


@strawberry.type(description="Result of setting a flow run's state.")
class FlowRunOrchestrationResult:
    status: OrchestrationStatus = strawberry.field(description="Decision of the orchestration rules.")
    state: State | None = strawberry.field(
        description=(
            "State of the flow run after the request. When the `transitionId` was used before, the state that it "
            "set then. Null when the flow run has no state."
        )
    )
    reason: str | None = strawberry.field(description="Reason for the decision. Null for ACCEPT.")
    delay_seconds: float | None = strawberry.field(
        description="Delay before the state can be proposed again, in seconds. Null unless `status` is WAIT."
    )
    created: bool = strawberry.field(
        description="Whether this request set a new state: the proposed one, or another one instead."
    )
    flow_run: FlowRun = strawberry.field(description="Flow run after the request.")


@strawberry.type(description="Result of deleting the task runs that match a filter.")
class TaskRunsDeletePayload:
    count: int = strawberry.field(
        description="Number of deleted task runs. With `dryRun`, the number of task runs that would be deleted."
    )
    has_more: bool = strawberry.field(
        description="Whether more than `limit` task runs match the filter. Repeat the request to delete the others."
    )


@strawberry.type(description="Information about the server process that executes the request.")
class ServerInfo:
    version: str = strawberry.field(description="Version of Runyard.")
    database: str = strawberry.field(description="Database system and its version, such as `SQLite 3.45.1`.")
    started_at: DateTime = strawberry.field(description="Time at which the server process started.")
