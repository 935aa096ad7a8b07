"""GraphQL types of flow runs and pages of them."""

from typing import TYPE_CHECKING, Annotated

import strawberry

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, StateRecord, TaskRunRecord
from resolvers import lists
from schema.context import Info
from schema.enums import StateType, TaskRunSort
from schema.inputs.filters import TaskRunFilterArgument, TaskRunSortArgument, parse_filter
from schema.reads.pages import After, Before, ConnectionResult, First, Last, ListConnection, Offset, connection_result
from schema.scalars import JSON, DateTime
from schema.types.flows import Deployment, Flow
from schema.types.node import Node
from schema.types.states import State

if TYPE_CHECKING:
    from schema.types.task_runs import TaskRun, TaskRunConnection


@strawberry.type(description="Retry policy of a flow run.")
class FlowRunPolicy:
    retries: int | None = strawberry.field(
        description="Maximum number of retries after failures. Null, 0 or a negative number means no retries."
    )
    retry_delay_seconds: float | None = strawberry.field(
        description="Delay before each retry in seconds. Null means no delay."
    )


@strawberry.type(description="Execution of a flow. Its task runs are in `taskRuns`.")
class FlowRun(Node):
    id: strawberry.ID = strawberry.field(description="Id of the flow run.")
    created: DateTime = strawberry.field(name="createdAt", description="Time of creation.")
    updated: DateTime = strawberry.field(name="updatedAt", description="Time of the last change.")
    name: str = strawberry.field(
        description="Name of the flow run, not necessarily unique. Generated when none was given on creation."
    )
    flow_id: strawberry.ID = strawberry.field(description="Id of the flow that is executed.")
    deployment_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the deployment that the flow run was created from, kept after the deployment is deleted. Null "
            "when it was created without a deployment."
        )
    )
    work_queue_name: str | None = strawberry.field(
        description=(
            "Work queue name of the deployment, copied on creation. Null without a deployment, or when the "
            "deployment has none."
        )
    )
    flow_version: str | None = strawberry.field(
        description="Version of the flow, as given on creation. Null when none was given."
    )
    idempotency_key: str | None = strawberry.field(
        description=(
            "Idempotency key. Creating a run with the same flow and key returns the existing run. Null when none "
            "was given."
        )
    )
    parameters: JSON = strawberry.field(description="Values that the flow is executed with, as a JSON object.")
    context: JSON = strawberry.field(
        description="Additional data, as a JSON object. Stored for clients; the server does not use it."
    )
    retry_policy: FlowRunPolicy = strawberry.field(description="Retry policy of the flow run.")
    pause_keys: list[str] = strawberry.field(
        description=(
            "Keys of the pauses that the flow run has had, including generated keys. Proposing PAUSED with one of "
            "them returns REJECT. Emptied when the flow run is retried or restarted."
        )
    )
    resuming: bool = strawberry.field(
        description=(
            "Whether the flow run has been resumed from a pause and has neither entered RUNNING nor ended since. "
            "Entering RUNNING then does not increase `runCount`."
        )
    )
    tags: list[str] = strawberry.field(
        description="Tags: those of the deployment, followed by those given on creation."
    )
    parent_task_run_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the task run that represents this flow run as a subflow. The state of the task run follows "
            "that of the flow run. Null when the flow run is not a subflow, or when the task run has been "
            "deleted."
        )
    )
    state_id: strawberry.ID = strawberry.field(description="Id of the current state.")
    state_type: StateType = strawberry.field(description="Type of the current state.")
    state_name: str = strawberry.field(description="Name of the current state.")
    state: State = strawberry.field(description="Current state. A flow run has one from its creation on.")
    run_count: int = strawberry.field(
        description=(
            "Number of times that the flow run has entered RUNNING. Resuming from a pause is not counted, unless "
            "the flow run left PAUSED with `force`."
        )
    )
    expected_start_time: DateTime | None = strawberry.field(
        description=(
            "Time at which the flow run was expected to start: the scheduled time of its first state, or the time "
            "of that state if it was not SCHEDULED. Later states do not change it."
        )
    )
    next_scheduled_start_time: DateTime | None = strawberry.field(
        description="Scheduled time of the current state. Null unless the flow run is SCHEDULED."
    )
    start_time: DateTime | None = strawberry.field(
        description="Time at which the flow run first entered RUNNING. Null when it has not."
    )
    end_time: DateTime | None = strawberry.field(
        description=(
            "Time at which the flow run ended. Null while it has not ended, and when it ended without entering RUNNING."
        )
    )
    total_run_time_seconds: float = strawberry.field(
        description="Time spent in past RUNNING states, in seconds. Does not include the current state."
    )
    estimated_run_time_seconds: float = strawberry.field(
        description=(
            "Time spent in RUNNING states, in seconds: `totalRunTimeSeconds` and, if the flow run is RUNNING, the "
            "time in the current state up to now."
        )
    )
    estimated_start_time_delta_seconds: float = strawberry.field(
        description=(
            "Delay between the expected and the actual start, in seconds. For runs that have not started, the "
            "delay so far, or 0 if they have ended. Never negative."
        )
    )

    @strawberry.field(description="Flow that is executed.", graphql_type=Flow)
    async def flow(self, info: Info) -> FlowRecord:
        flow = await info.context.loaders.flows.load(self.flow_id)
        assert flow is not None
        return flow

    @strawberry.field(
        description=(
            "Deployment that the flow run was created from. Null when it was created without a deployment, or "
            "when the deployment has been deleted."
        ),
        graphql_type=Deployment | None,
    )
    async def deployment(self, info: Info) -> DeploymentRecord | None:
        if self.deployment_id is None:
            return None
        return await info.context.loaders.deployments.load(self.deployment_id)

    @strawberry.field(
        description=(
            "Task run that represents this flow run as a subflow. Null when the flow run is not a subflow, or "
            "when the task run has been deleted."
        ),
        graphql_type=Annotated["TaskRun", strawberry.lazy("schema.types.task_runs")] | None,  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    )
    async def parent_task_run(self, info: Info) -> TaskRunRecord | None:
        if self.parent_task_run_id is None:
            return None
        return await info.context.loaders.task_runs.load(self.parent_task_run_id)

    @strawberry.field(
        description="States that the flow run has had, including the current one, oldest first.",
        graphql_type=list[State],
    )
    async def states(self, info: Info) -> list[StateRecord]:
        return await info.context.loaders.flow_run_histories.load(self.id)

    @strawberry.field(
        description="Page of the task runs of this flow run.",
        graphql_type=Annotated["TaskRunConnection", strawberry.lazy("schema.types.task_runs")],
    )
    async def task_runs(
        self,
        info: Info,
        filter: TaskRunFilterArgument = None,
        sort: TaskRunSortArgument = TaskRunSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> ConnectionResult:
        list_query = lists.task_runs(parse_filter("filter", filter), sort, flow_run_id=self.id)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, FlowRunRecord)


@strawberry.type(description="Page of a list of flow runs.")
class FlowRunConnection(ListConnection[FlowRun]):
    pass
