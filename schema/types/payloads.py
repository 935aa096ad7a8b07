"""GraphQL types of mutation results and server information."""

import strawberry

from schema.enums import OrchestrationStatus
from schema.scalars import DateTime
from schema.types.flow_runs import FlowRun
from schema.types.flows import Deployment, Flow
from schema.types.states import State
from schema.types.task_runs import TaskRun


@strawberry.type(description="A task run with the keys you asked for.")
class TaskRunCreatePayload:
    task_run: TaskRun = strawberry.field(description="The run.")
    created: bool = strawberry.field(
        description="False where a run with the same flowRunId, taskKey and dynamicKey was there already; "
        "then nothing of your request was applied."
    )


@strawberry.type(description="A flow with the name you asked for.")
class FlowCreatePayload:
    flow: Flow = strawberry.field(description="The flow.")
    created: bool = strawberry.field(description="False where a flow with the same name was there already.")


@strawberry.type(description="A deployment with the flow and name you asked for.")
class DeploymentCreatePayload:
    deployment: Deployment = strawberry.field(description="The deployment.")
    created: bool = strawberry.field(
        description="False where a deployment with the same flowId and name was there already."
    )


@strawberry.type(description="A flow run with the idempotency key you asked for.")
class FlowRunCreatePayload:
    flow_run: FlowRun = strawberry.field(description="The flow run.")
    created: bool = strawberry.field(
        description="False where a run with the same flowId and idempotencyKey was there already."
    )


@strawberry.type(description="What came of a state that was proposed for a task run.")
class TaskRunOrchestrationResult:
    status: OrchestrationStatus = strawberry.field(description="What the rules made of it.")
    state: State | None = strawberry.field(
        description="The state that the run is in now, or that this transition made when it was first sent; "
        "null where there is none."
    )
    reason: str | None = strawberry.field(description="Why, for all but ACCEPT.")
    delay_seconds: float | None = strawberry.field(description="How long to wait before asking again, for WAIT.")
    created: bool = strawberry.field(description="Whether this call wrote a new state.")
    task_run: TaskRun = strawberry.field(description="The run as it is now.")


@strawberry.type(description="Why one of several changes was refused; the others were made.")
class RowError:
    code: str = strawberry.field(description="As `extensions.code` of an error.")
    message: str = strawberry.field(description="What to put right.")


@strawberry.type(description="What came of one of several proposed states. One of `result` and `error` is set.")
class TaskRunStateChangeResult:
    id: strawberry.ID = strawberry.field(description="The task run's id.")
    result: TaskRunOrchestrationResult | None = strawberry.field(description="What the rules made of it.")
    error: RowError | None = strawberry.field(description="Why it was refused.")


@strawberry.type(description="What came of a state that was proposed for a flow run.")
class FlowRunOrchestrationResult:
    status: OrchestrationStatus = strawberry.field(description="What the rules made of it.")
    state: State | None = strawberry.field(
        description="The state that the run is in now, or that this transition made when it was first sent; "
        "null where there is none."
    )
    reason: str | None = strawberry.field(description="Why, for all but ACCEPT.")
    delay_seconds: float | None = strawberry.field(description="How long to wait before asking again, for WAIT.")
    created: bool = strawberry.field(description="Whether this call wrote a new state.")
    flow_run: FlowRun = strawberry.field(description="The flow run as it is now.")


@strawberry.type(description="What came of deleting the task runs that a filter lets through.")
class TaskRunsDeletePayload:
    count: int = strawberry.field(description="How many were deleted; for a dry run, how many would have been.")
    has_more: bool = strawberry.field(description="Whether the filter lets through more than the limit. Ask again.")


@strawberry.type(description="The server that answers.")
class ServerInfo:
    version: str = strawberry.field(description="The version of Runyard.")
    database: str = strawberry.field(description="The kind and version of its database.")
    started_at: DateTime = strawberry.field(description="When this process started.")
