"""GraphQL types of mutation results."""

import strawberry

from schema.enums import ErrorCode, OrchestrationStatus
from schema.types.concurrency_limits import ConcurrencyLimit
from schema.types.flow_runs import FlowRun
from schema.types.flows import Deployment, Flow
from schema.types.leases import LeaseResult, ScheduledTaskRun
from schema.types.queues import TaskQueue
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


@strawberry.type(description="Error of one item of a mutation. The other items are not affected.")
class MutationError:
    code: ErrorCode = strawberry.field(description="Error code, as in `extensions.code` of a GraphQL error.")
    message: str = strawberry.field(description="Error message.")
    argument: str | None = strawberry.field(
        description=(
            "Path of the invalid argument, such as `inputs.3.taskRunId`. Always set for the codes `NOT_FOUND` and "
            "`CONFLICT`; null when the error concerns no argument."
        )
    )


@strawberry.type(description="Result of one item of `createTaskRuns`.")
class TaskRunCreateResult:
    task_run: TaskRun | None = strawberry.field(
        description="New task run, or the existing task run with the same keys. Null when `error` is set."
    )
    created: bool = strawberry.field(
        description=(
            "Whether a new task run was created. False when `error` is set, and when a task run with the same "
            "`flowRunId`, `taskKey` and `dynamicKey` already existed; it is returned unchanged."
        )
    )
    error: MutationError | None = strawberry.field(
        description=(
            "Error of the item, with the code `QUEUE_FULL`, `NOT_FOUND` or `CONFLICT`. Always null without `partial`, "
            "because the error fails the whole request."
        )
    )


@strawberry.type(description="Result of creating several task runs.")
class TaskRunsCreatePayload:
    results: list[TaskRunCreateResult] = strawberry.field(
        description="One result for each input, in the order of the inputs."
    )


@strawberry.type(description="Result of changing a task run.")
class TaskRunUpdatePayload:
    task_run: TaskRun = strawberry.field(description="Task run after the change.")


@strawberry.type(description="Result of deleting an object.")
class DeletePayload:
    deleted_id: strawberry.ID = strawberry.field(description="Id of the deleted object.")


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
    state: State = strawberry.field(
        description=(
            "State of the task run after this proposal. When the `transitionId` was used before, the state that it "
            "set then."
        )
    )
    reason: str | None = strawberry.field(description="Reason for the decision. Null for ACCEPT.")
    delay_seconds: float | None = strawberry.field(
        description="Delay before the state can be proposed again, in seconds. Null unless `status` is WAIT."
    )
    state_created: bool = strawberry.field(
        description="Whether this proposal set a new state: the proposed one, or another one instead."
    )
    task_run: TaskRun = strawberry.field(
        description=(
            "Task run after the whole request, including later proposals of the same `setTaskRunStates` or "
            "`exchangeTaskRuns`, and its claim."
        )
    )


@strawberry.type(
    description=(
        "Result of one item of `setTaskRunStates` or one report of `exchangeTaskRuns`. Exactly one of `result` and "
        "`error` is not null."
    )
)
class TaskRunStateChangeResult:
    task_run_id: strawberry.ID = strawberry.field(description="Id of the task run.")
    result: TaskRunOrchestrationResult | None = strawberry.field(
        description="Result of setting the state. Null when `error` is set."
    )
    error: MutationError | None = strawberry.field(
        description="Error of the item, with the code `NOT_FOUND` or `QUEUE_FULL`. Null when `result` is set."
    )


@strawberry.type(description="Result of setting the states of several task runs.")
class TaskRunStatesPayload:
    results: list[TaskRunStateChangeResult] = strawberry.field(
        description="One result for each input, in the order of the inputs."
    )


@strawberry.type(description="Result of claiming task runs.")
class TaskRunsClaimPayload:
    deliveries: list[ScheduledTaskRun] = strawberry.field(
        description="Claimed task runs, each under a lease. Empty when no run was due."
    )


@strawberry.type(description="Result of `exchangeTaskRuns`.")
class ExchangePayload:
    results: list[TaskRunStateChangeResult] = strawberry.field(
        description="One result for each report, in the order of the reports."
    )
    leases: list[LeaseResult] = strawberry.field(
        description="One result for each lease in `renew`, in the order of the ids."
    )
    deliveries: list[ScheduledTaskRun] = strawberry.field(
        description=(
            "Claimed task runs, each under a lease. Empty without `claim`, when no run was due, and while the server "
            "stops."
        )
    )


@strawberry.type(
    description=(
        "Result of acknowledging, renewing or releasing leases, of reporting progress under them, or of waiting for their "
        "signals."
    )
)
class LeasesPayload:
    leases: list[LeaseResult] = strawberry.field(
        description=(
            "Results in the order of the ids or reports: one for each lease, or with `leaseSignals`, one for each lease "
            "that is LOST or whose run is being cancelled."
        )
    )


@strawberry.type(description="Result of pausing or resuming a task queue.")
class TaskQueuePayload:
    task_queue: TaskQueue = strawberry.field(description="Task queue after the change.")


@strawberry.type(description="Result of changing a concurrency limit.")
class ConcurrencyLimitPayload:
    concurrency_limit: ConcurrencyLimit = strawberry.field(description="Concurrency limit after the change.")


@strawberry.type(description="Result of setting a flow run's state.")
class FlowRunOrchestrationResult:
    status: OrchestrationStatus = strawberry.field(description="Decision of the orchestration rules.")
    state: State = strawberry.field(
        description=(
            "State of the flow run after the request. When the `transitionId` was used before, the state that it "
            "set then."
        )
    )
    reason: str | None = strawberry.field(description="Reason for the decision. Null for ACCEPT.")
    delay_seconds: float | None = strawberry.field(
        description="Delay before the state can be proposed again, in seconds. Null unless `status` is WAIT."
    )
    state_created: bool = strawberry.field(
        description="Whether this request set a new state: the proposed one, or another one instead."
    )
    flow_run: FlowRun = strawberry.field(description="Flow run after the request.")


@strawberry.type(description="Result of deleting the task runs that match a filter.")
class TaskRunsDeletePayload:
    matched: int = strawberry.field(
        description="Number of matching task runs that the request examined, at most `limit`."
    )
    deleted: int = strawberry.field(description="Number of deleted task runs. 0 with `dryRun`.")
    has_more: bool = strawberry.field(
        description="Whether more than `limit` task runs match the filter. Repeat the request to delete the others."
    )
