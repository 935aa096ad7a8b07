"""Fields of `Query`. Each parses its arguments and calls one resolver."""

from typing import Annotated

import orjson
import strawberry

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from resolvers import concurrency_limits, flow_runs, flows, history, lists, task_runs
from resolvers.concurrency_limits import LimitWithSlots
from resolvers.delivery import lease_signals, workers
from resolvers.delivery.leases import LeaseResult
from resolvers.delivery.workers import WorkerConnections, WorkerSummary
from resolvers.nodes import AnyRecord
from resolvers.queue import stats
from resolvers.queue.stats import TaskQueueStats
from schema.context import Info, ServerMetadata
from schema.enums import DeploymentSort, FlowRunSort, FlowSort, TaskRunSort
from schema.execution.codegen import CompletedValue, NotCompilable
from schema.inputs.arguments import (
    MAX_WAIT_SECONDS,
    AtMost,
    parse_id,
    parse_ids,
    parse_node_id,
    validate_at_most,
    validate_batch_size,
    validate_seconds,
)
from schema.inputs.filters import (
    DeploymentFilterArgument,
    DeploymentSortArgument,
    FlowFilterArgument,
    FlowRunFilterArgument,
    FlowRunSortArgument,
    FlowSortArgument,
    TaskRunFilterArgument,
    TaskRunSortArgument,
    parse_filter,
)
from schema.reads.ended_task_runs import EndedRunsResult, wait_for_ended_runs
from schema.reads.history_plan import plan_history
from schema.reads.pages import After, Before, ConnectionResult, First, Last, Offset, connection_result
from schema.reads.row_plans import plan_row
from schema.results import LeaseResults, ViewerResult
from schema.types.concurrency_limits import ConcurrencyLimit
from schema.types.flow_runs import FlowRun, FlowRunConnection
from schema.types.flows import Deployment, DeploymentConnection, Flow, FlowConnection
from schema.types.history import HistoryEndArgument, HistoryStartArgument, IntervalSecondsArgument, RunHistoryInterval
from schema.types.node import Node
from schema.types.payloads import LeasesPayload
from schema.types.queues import TaskQueue
from schema.types.server import ServerInfo, Viewer
from schema.types.state_changes import encode_position
from schema.types.task_runs import EndedTaskRuns, TaskRun, TaskRunConnection
from schema.types.workers import Worker

WaitSecondsArgument = Annotated[
    float, strawberry.argument(description="Maximum time to wait in seconds, 0 to 60. Defaults to 0: do not wait.")
]


def _start_wait(info: Info, wait_seconds: float) -> float:
    """Check `waitSeconds`, and extend the deadline of the operation by it."""
    wait_seconds = validate_seconds("waitSeconds", wait_seconds, minimum=0, maximum=MAX_WAIT_SECONDS)
    info.context.extend_deadline(wait_seconds)
    return wait_seconds


@strawberry.type(
    description=(
        "Queries. A field that fails is null and has an error, and the others keep their results. Available over "
        "HTTP, WebSocket (`graphql-transport-ws`) and Server-Sent Events (`graphql-sse`)."
    )
)
class Query:
    @strawberry.field(
        graphql_type=Node | None,
        description=(
            "Return the task run, flow run, state, flow, deployment, concurrency limit or task queue with this id. "
            "Null when no object has the id."
        ),
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Id of an object of any of these types.")],
    ) -> AnyRecord | None:
        return await info.context.loaders.nodes.load(parse_node_id("id", id))

    @strawberry.field(
        graphql_type=list[Node | None] | None,
        description=(
            "Return the objects with these ids, as `node` does, in the order of the ids. An unknown id results in null."
        ),
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of objects, at most 1,000.")],
    ) -> list[AnyRecord | None]:
        validate_batch_size("ids", ids)
        return await info.context.loaders.nodes.load_many(
            [parse_node_id(f"ids.{index}", id) for index, id in enumerate(ids)]
        )

    @strawberry.field(graphql_type=TaskRun | None, description="Return a task run. Null when no task run has the id.")
    async def task_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the task run.")]
    ) -> TaskRunRecord | CompletedValue | None:
        ids = [parse_id("id", id)]
        if (plan := plan_row(info)) is not None:
            paths = plan.paths
            row, now = await info.context.database.read(
                lambda connection: task_runs.read_task_run_row(connection, ids[0], paths)
            )
            try:
                return None if row is None else plan.complete(row, now)
            except NotCompilable:
                pass
        (record,) = await info.context.database.read(lambda connection: task_runs.read_task_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=TaskRunConnection | None, description="List task runs, one page at a time.")
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
        list_query = lists.task_runs(parse_filter("filter", filter), sort)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @strawberry.field(graphql_type=int | None, description="Count the task runs that match a filter.")
    async def task_run_count(self, info: Info, filter: TaskRunFilterArgument = None, at_most: AtMost = None) -> int:
        list_query = lists.task_runs(parse_filter("filter", filter), TaskRunSort.ID_DESC)
        stop_at = validate_at_most(at_most)
        # Not batched by a loader, because waiting for other counts takes longer than most counts.
        return await info.context.database.read(lambda connection: lists.count_list(connection, list_query, stop_at))

    @strawberry.field(
        graphql_type=EndedTaskRuns | None,
        description=(
            "Wait until one of these task runs has ended or is not found, and return all of which that is the case. The "
            "result is empty after `waitSeconds`, and when the server stops. Runs that exceed the server's "
            "`RUNYARD_MAX_RESPONSE_BYTES` together are returned by several queries: see `hasMore`."
        ),
    )
    async def ended_task_runs(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description="Ids of the task runs, at most 1,000. Duplicates are ignored."),
        ],
        wait_seconds: WaitSecondsArgument = 0,
    ) -> EndedRunsResult:
        validate_batch_size("ids", ids)
        unique_ids = list(dict.fromkeys(parse_ids("ids", ids)))
        return await wait_for_ended_runs(info, unique_ids, _start_wait(info, wait_seconds))

    @strawberry.field(
        graphql_type=LeasesPayload | None,
        description=(
            "Wait until one of these leases is LOST or its run is being cancelled (HELD with `cancelRequested`), and "
            "return only such leases. The list is empty after `waitSeconds`, and when the server stops. Renews and "
            "acknowledges nothing; omit the returned leases from the next query."
        ),
    )
    async def lease_signals(
        self,
        info: Info,
        lease_ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(
                description="Ids of the leases, at most 1,000. Duplicates are ignored. Unknown leases are LOST."
            ),
        ],
        wait_seconds: WaitSecondsArgument = 0,
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        ids = list(dict.fromkeys(parse_ids("leaseIds", lease_ids)))
        database, registry = info.context.database, info.context.waits.lease_signals

        async def look() -> list[LeaseResult]:
            return await database.read(lambda connection: lease_signals.read_signals(connection, ids))

        found = await registry.wait(ids, _start_wait(info, wait_seconds), look)
        return LeaseResults([*found])

    @strawberry.field(
        graphql_type=str | None,
        description=(
            "Opaque cursor of the present in the feed of state changes. Send it as `after` of `taskRunStateChanges` to "
            "receive every state change that is committed after this query."
        ),
    )
    async def state_change_cursor(self, info: Info) -> str:
        return encode_position(await info.context.feed.read_position())

    @strawberry.field(
        graphql_type=list[RunHistoryInterval] | None,
        description=(
            "Count task runs by their state, in equal intervals of their `expectedStartTime`. All intervals are "
            "returned, earliest first, including those without runs."
        ),
    )
    async def task_run_history(
        self,
        info: Info,
        start: HistoryStartArgument,
        end: HistoryEndArgument,
        interval_seconds: IntervalSecondsArgument,
        filter: TaskRunFilterArgument = None,
    ) -> list[history.RunHistoryInterval] | CompletedValue:
        run_filter, span = parse_filter("filter", filter), history.split_span(start, end, interval_seconds)
        database = info.context.database
        if (plan := plan_history(info)) is not None:
            json_text = await database.read(
                lambda connection: history.history_json(connection, run_filter, span, *plan)
            )
            return CompletedValue(orjson.Fragment(json_text))
        return await database.read(lambda connection: history.read_history(connection, run_filter, span))

    @strawberry.field(graphql_type=FlowRun | None, description="Return a flow run. Null when no flow run has the id.")
    async def flow_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the flow run.")]
    ) -> FlowRunRecord | CompletedValue | None:
        ids = [parse_id("id", id)]
        if (plan := plan_row(info)) is not None:
            paths = plan.paths
            row, now = await info.context.database.read(
                lambda connection: flow_runs.read_flow_run_row(connection, ids[0], paths)
            )
            try:
                return None if row is None else plan.complete(row, now)
            except NotCompilable:
                pass
        (record,) = await info.context.database.read(lambda connection: flow_runs.read_flow_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=FlowRunConnection | None, description="List flow runs, one page at a time.")
    async def flow_runs(
        self,
        info: Info,
        filter: FlowRunFilterArgument = None,
        sort: FlowRunSortArgument = FlowRunSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> ConnectionResult:
        list_query = lists.flow_runs(parse_filter("filter", filter), sort)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @strawberry.field(graphql_type=Flow | None, description="Return a flow. Null when no flow has the id.")
    async def flow(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the flow.")]
    ) -> FlowRecord | None:
        ids = [parse_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_flows(connection, ids))
        return record

    @strawberry.field(graphql_type=FlowConnection | None, description="List flows, one page at a time.")
    async def flows(
        self,
        info: Info,
        filter: FlowFilterArgument = None,
        sort: FlowSortArgument = FlowSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> ConnectionResult:
        list_query = lists.flows(parse_filter("filter", filter), sort)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @strawberry.field(
        graphql_type=Deployment | None, description="Return a deployment. Null when no deployment has the id."
    )
    async def deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the deployment.")]
    ) -> DeploymentRecord | None:
        ids = [parse_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_deployments(connection, ids))
        return record

    @strawberry.field(graphql_type=DeploymentConnection | None, description="List deployments, one page at a time.")
    async def deployments(
        self,
        info: Info,
        filter: DeploymentFilterArgument = None,
        sort: DeploymentSortArgument = DeploymentSort.ID_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        offset: Offset = None,
    ) -> ConnectionResult:
        list_query = lists.deployments(parse_filter("filter", filter), sort)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @strawberry.field(
        graphql_type=ConcurrencyLimit | None,
        description="Return the concurrency limit of a tag. Null when the tag has no limit.",
    )
    async def concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str, strawberry.argument(description="Tag of the limit. Tags are compared exactly, including their case.")
        ],
    ) -> LimitWithSlots | None:
        (limit,) = await info.context.database.read(
            lambda connection: concurrency_limits.read_limits(connection, [tag])
        )
        return limit

    @strawberry.field(
        graphql_type=list[ConcurrencyLimit] | None, description="List all concurrency limits, sorted by tag."
    )
    async def concurrency_limits(self, info: Info) -> list[LimitWithSlots]:
        return await info.context.database.read(concurrency_limits.list_limits)

    @strawberry.field(
        graphql_type=list[TaskQueue] | None,
        description=(
            "Return the queue statistics of these task keys, in the order of the keys. Without `taskKeys`, the "
            "result contains every key that has queued runs, is paused, or has subscribers on this server, sorted by key."
        ),
    )
    async def task_queues(
        self,
        info: Info,
        task_keys: Annotated[
            list[str] | None,
            strawberry.argument(
                description=(
                    "Task keys, at most 1,000. Defaults to all keys that have queued runs, are paused, or have subscribers."
                )
            ),
        ] = None,
    ) -> list[TaskQueueStats]:
        validate_batch_size("taskKeys", task_keys or [])
        subscriber_counts, capacity = info.context.dispatcher.subscriber_counts(), info.context.writes.capacity
        return await info.context.database.read(
            lambda connection: stats.read_task_queues(connection, task_keys, subscriber_counts, capacity)
        )

    @strawberry.field(
        graphql_type=list[Worker] | None,
        description=(
            "List the workers that are connected or hold leases, sorted by name, those without a name last: at most 1,000. "
            "With `taskKeys`, only connections and leases of these task keys count."
        ),
    )
    async def workers(
        self,
        info: Info,
        task_keys: Annotated[
            list[str] | None, strawberry.argument(description="Task keys, at most 1,000. Defaults to all task keys.")
        ] = None,
    ) -> list[WorkerSummary]:
        validate_batch_size("taskKeys", task_keys or [])
        database = info.context.database
        connections = WorkerConnections.of(info.context.dispatcher.workers, is_shared=database.is_shared)
        return await database.read(lambda connection: workers.read_workers(connection, task_keys, connections))

    @strawberry.field(
        graphql_type=ServerInfo | None, description="Return information about the server that executes the request."
    )
    def server(self, info: Info) -> ServerMetadata:
        return info.context.server

    @strawberry.field(
        graphql_type=Viewer | None,
        description=(
            "Return the client that sent the request, as its API token identifies it. Null when the server requires no "
            "token."
        ),
    )
    def viewer(self, info: Info) -> ViewerResult | None:
        return ViewerResult.of_caller(info.context.caller)
