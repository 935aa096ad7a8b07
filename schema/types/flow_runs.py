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


@strawberry.type(description="How often a flow run is tried again, and what its pauses have left behind.")
class FlowRunPolicy:
    retries: int | None = strawberry.field(description="How many times a failed run is tried again; null is never.")
    retry_delay_seconds: float | None = strawberry.field(
        description="How long to wait before each retry; null is not at all."
    )
    pause_keys: list[str] = strawberry.field(
        description="The keys of the pauses that the run has had; a pause with one of them is not taken again."
    )
    resuming: bool = strawberry.field(
        description="Whether it has been resumed and not yet gone on: entering RUNNING then does not count as a run."
    )


@strawberry.type(description="One execution of a flow.")
class FlowRun(Node):
    id: strawberry.ID = strawberry.field(description="Identifies the flow run.")
    created: DateTime = strawberry.field(description="When it was created.")
    updated: DateTime = strawberry.field(description="When anything about it last changed.")
    name: str = strawberry.field(description="Its name, made up where none was given; not unique.")
    flow_id: strawberry.ID = strawberry.field(description="The flow that it executes.")
    deployment_id: strawberry.ID | None = strawberry.field(
        description="The deployment it came from; still told when that is gone."
    )
    work_queue_name: str | None = strawberry.field(description="The work queue of its deployment.")
    flow_version: str | None = strawberry.field(description="The flow's version, as the creator told it.")
    idempotency_key: str | None = strawberry.field(
        description="Creating with the same flow and key again answers this run."
    )
    parameters: JSON = strawberry.field(description="What the flow is called with.")
    context: JSON = strawberry.field(description="Whatever else the creator wanted to keep with it.")
    empirical_policy: FlowRunPolicy = strawberry.field(description="How it is retried and paused.")
    tags: list[str] = strawberry.field(description="In the order in which they were given.")
    parent_task_run_id: strawberry.ID | None = strawberry.field(
        description="The task run that stands for this run in its parent flow run, where this is a subflow."
    )
    state_id: strawberry.ID | None = strawberry.field(description="The current state; null before the first one.")
    state_type: StateType | None = strawberry.field(description="The current state's type.")
    state_name: str | None = strawberry.field(description="The current state's name.")
    state: State | None = strawberry.field(description="The current state; null before the first one.")
    run_count: int = strawberry.field(description="How often it has entered RUNNING, not counting resumptions.")
    expected_start_time: DateTime | None = strawberry.field(
        description="When it was first meant to start; later states do not move it."
    )
    next_scheduled_start_time: DateTime | None = strawberry.field(description="When it is due, while it is SCHEDULED.")
    start_time: DateTime | None = strawberry.field(description="When it first entered RUNNING.")
    end_time: DateTime | None = strawberry.field(
        description="When it ended; null while it has not, and for a run that never started."
    )
    total_run_time_seconds: float = strawberry.field(description="Time spent in RUNNING states that are over.")
    estimated_run_time_seconds: float = strawberry.field(
        description="The same, with the time in the present RUNNING state up to now."
    )
    estimated_start_time_delta_seconds: float = strawberry.field(
        description="How late it started, or how late it is while it has not started; never negative."
    )

    @strawberry.field(description="The flow that it executes.", graphql_type=Flow)
    async def flow(self, info: Info) -> FlowRecord:
        flow = await info.context.loaders.flows.load(self.flow_id)
        assert flow is not None
        return flow

    @strawberry.field(
        description="The deployment it came from; null where it came from none, or that is gone.",
        graphql_type=Deployment | None,
    )
    async def deployment(self, info: Info) -> DeploymentRecord | None:
        if self.deployment_id is None:
            return None
        return await info.context.loaders.deployments.load(self.deployment_id)

    @strawberry.field(
        description="The task run that stands for this run in its parent flow run, where this is a subflow.",
        graphql_type=Annotated["TaskRun", strawberry.lazy("schema.types.task_runs")] | None,  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
    )
    async def parent_task_run(self, info: Info) -> TaskRunRecord | None:
        if self.parent_task_run_id is None:
            return None
        return await info.context.loaders.task_runs.load(self.parent_task_run_id)

    @strawberry.field(description="Every state that it has had, oldest first.", graphql_type=list[State])
    async def states(self, info: Info) -> list[StateRecord]:
        return await info.context.loaders.flow_run_histories.load(self.id)

    @strawberry.field(
        description="A page of its task runs.",
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
        list_query = lists.task_runs(parse_filter("filter", filter), sort or TaskRunSort.ID_DESC, flow_run_id=self.id)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, FlowRunRecord)


@strawberry.type(description="A page of a list of flow runs.")
class FlowRunConnection(ListConnection[FlowRun]):
    pass
