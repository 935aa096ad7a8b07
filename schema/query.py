"""The fields of Query: each parses its arguments and calls one resolver."""

from typing import Annotated

import orjson
import strawberry

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from resolvers import concurrency_limits, flow_runs, flows, history, lists, task_runs
from resolvers.concurrency_limits import LimitWithSlots
from resolvers.nodes import AnyRecord
from resolvers.queue import stats
from resolvers.queue.stats import TaskQueueFigures
from schema.context import Info, Server
from schema.enums import FlowRunSort, TaskRunSort
from schema.execution.codegen import NotPlain, Prepared
from schema.inputs.arguments import read_batch_size, read_id, read_ids
from schema.inputs.filters import (
    FlowRunOrder,
    TaskRunOrder,
    WantedDeployments,
    WantedFlowRuns,
    WantedFlows,
    WantedTaskRuns,
    read_filter,
)
from schema.reads.history_plan import history_plan
from schema.reads.pages import After, Answer, Before, First, Last, Offset, answer
from schema.reads.row_plans import row_plan
from schema.types.concurrency_limits import ConcurrencyLimit
from schema.types.flow_runs import FlowRun, FlowRunConnection
from schema.types.flows import Deployment, DeploymentConnection, Flow, FlowConnection
from schema.types.history import End, IntervalSeconds, RunHistoryInterval, Start
from schema.types.node import Node
from schema.types.payloads import ServerInfo
from schema.types.queues import TaskQueue
from schema.types.task_runs import TaskRun, TaskRunConnection


@strawberry.type(description="What you can ask.")
class Query:
    @strawberry.field(graphql_type=Node | None, description="Whatever has this id; null where nothing has.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="An id of any kind.")]
    ) -> AnyRecord | None:
        return await info.context.loaders.nodes.load(read_id("id", id))

    @strawberry.field(
        graphql_type=list[Node | None],
        description="Whatever has these ids, in their order; null in the place of an id that nothing has.",
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of any kind, up to 1,000.")],
    ) -> list[AnyRecord | None]:
        read_batch_size("ids", ids)
        return await info.context.loaders.nodes.load_many(read_ids("ids", ids))

    @strawberry.field(graphql_type=TaskRun | None, description="One task run; null where none has this id.")
    async def task_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The task run's id.")]
    ) -> TaskRunRecord | Prepared | None:
        ids = [read_id("id", id)]
        if (plan := row_plan(info)) is not None:
            paths = plan.paths
            row, now = await info.context.database.read(
                lambda connection: task_runs.read_task_run_row(connection, ids[0], paths)
            )
            try:
                return None if row is None else plan.complete(row, now)
            except NotPlain:
                pass
        (record,) = await info.context.database.read(lambda connection: task_runs.read_task_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=TaskRunConnection, description="A page of task runs.")
    async def task_runs(
        self,
        info: Info,
        filter: WantedTaskRuns = None,
        sort: TaskRunOrder = TaskRunSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> Answer:
        wanted = lists.task_runs(read_filter("filter", filter), sort or TaskRunSort.ID_DESC)
        return await answer(info, wanted, first, after, last, before, offset)

    @strawberry.field(description="How many task runs the filter lets through.")
    async def task_run_count(self, info: Info, filter: WantedTaskRuns = None) -> int:
        wanted = lists.task_runs(read_filter("filter", filter), TaskRunSort.ID_DESC)
        # Not gathered with others: waiting for them takes longer than most of these.
        return await info.context.database.read(lambda connection: lists.count_list(connection, wanted))

    @strawberry.field(
        graphql_type=list[RunHistoryInterval],
        description="How many task runs were meant to start (`expectedStartTime`) in each interval of a span of time, and "
        "what has become of them. Interval follows interval, the earliest first, with those in between where there are "
        "no runs. Runs without a state are left out.",
    )
    async def task_run_history(
        self, info: Info, start: Start, end: End, interval_seconds: IntervalSeconds, filter: WantedTaskRuns = None
    ) -> list[history.RunHistoryInterval] | Prepared:
        wanted, span = read_filter("filter", filter), history.split_span(start, end, interval_seconds)
        database = info.context.database
        if (plan := history_plan(info)) is not None:
            written = await database.read(lambda connection: history.written_history(connection, wanted, span, *plan))
            return Prepared(orjson.Fragment(written))
        return await database.read(lambda connection: history.read_history(connection, wanted, span))

    @strawberry.field(graphql_type=FlowRun | None, description="One flow run; null where none has this id.")
    async def flow_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The flow run's id.")]
    ) -> FlowRunRecord | Prepared | None:
        ids = [read_id("id", id)]
        if (plan := row_plan(info)) is not None:
            paths = plan.paths
            row, now = await info.context.database.read(
                lambda connection: flow_runs.read_flow_run_row(connection, ids[0], paths)
            )
            try:
                return None if row is None else plan.complete(row, now)
            except NotPlain:
                pass
        (record,) = await info.context.database.read(lambda connection: flow_runs.read_flow_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=FlowRunConnection, description="A page of flow runs.")
    async def flow_runs(
        self,
        info: Info,
        filter: WantedFlowRuns = None,
        sort: FlowRunOrder = FlowRunSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> Answer:
        wanted = lists.flow_runs(read_filter("filter", filter), sort or FlowRunSort.ID_DESC)
        return await answer(info, wanted, first, after, last, before, offset)

    @strawberry.field(graphql_type=Flow | None, description="One flow; null where none has this id.")
    async def flow(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The flow's id.")]
    ) -> FlowRecord | None:
        ids = [read_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_flows(connection, ids))
        return record

    @strawberry.field(graphql_type=FlowConnection, description="A page of flows, the latest first.")
    async def flows(
        self,
        info: Info,
        filter: WantedFlows = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> Answer:
        return await answer(info, lists.flows(read_filter("filter", filter)), first, after, last, before, offset)

    @strawberry.field(graphql_type=Deployment | None, description="One deployment; null where none has this id.")
    async def deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The deployment's id.")]
    ) -> DeploymentRecord | None:
        ids = [read_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_deployments(connection, ids))
        return record

    @strawberry.field(graphql_type=DeploymentConnection, description="A page of deployments, the latest first.")
    async def deployments(
        self,
        info: Info,
        filter: WantedDeployments = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> Answer:
        return await answer(info, lists.deployments(read_filter("filter", filter)), first, after, last, before, offset)

    @strawberry.field(
        graphql_type=ConcurrencyLimit | None, description="The concurrency limit of a tag; null where it has none."
    )
    async def concurrency_limit(
        self, info: Info, tag: Annotated[str, strawberry.argument(description="The tag, exactly.")]
    ) -> LimitWithSlots | None:
        (limit,) = await info.context.database.read(
            lambda connection: concurrency_limits.read_limits(connection, [tag])
        )
        return limit

    @strawberry.field(
        graphql_type=list[ConcurrencyLimit], description="Every concurrency limit, in the order of the tags."
    )
    async def concurrency_limits(self, info: Info) -> list[LimitWithSlots]:
        return await info.context.database.read(concurrency_limits.list_limits)

    @strawberry.field(
        graphql_type=list[TaskQueue],
        description="The queue of every task key that has runs waiting, runs leased or workers listening, in the order "
        "of the keys; or those of the keys that you name, in your order, whether there is anything to tell of them or not.",
    )
    async def task_queues(
        self,
        info: Info,
        task_keys: Annotated[
            list[str] | None, strawberry.argument(description="The keys, up to 1,000; left out, all.")
        ] = None,
    ) -> list[TaskQueueFigures]:
        read_batch_size("taskKeys", task_keys or [])
        listening, bounds = info.context.dispatcher.listening(), info.context.writes.bounds
        return await info.context.database.read(
            lambda connection: stats.read_task_queues(connection, task_keys, listening, bounds)
        )

    @strawberry.field(graphql_type=ServerInfo, description="The server that answers you.")
    def server(self, info: Info) -> Server:
        return info.context.server
