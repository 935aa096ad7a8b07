"""The fields of Query: each parses its arguments and calls one resolver."""

from contextlib import suppress
from typing import Annotated

import strawberry

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from resolvers import concurrency, flow_runs, flows, task_runs
from resolvers.concurrency import LimitWithSlots
from schema.arguments import LARGEST_PAGE, read_count, read_id
from schema.completion import NotPlain, Prepared
from schema.concurrency import ConcurrencyLimit
from schema.context import Info, Server
from schema.filters import TaskRunFilter, read_filter
from schema.flow_runs import FlowRun
from schema.flows import Deployment, Flow
from schema.pages import cursor_of, page_info
from schema.payloads import ServerInfo
from schema.rows import connection_plan, row_plan
from schema.task_runs import TaskRun, TaskRunConnection, TaskRunPage, TaskRunRowPage

DEFAULT_PAGE = 50


@strawberry.type(description="What you can ask.")
class Query:
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
            with suppress(NotPlain):
                return None if row is None else plan.complete(row, now)
        (record,) = await info.context.database.read(lambda connection: task_runs.read_task_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=TaskRunConnection, description="A page of task runs, the latest first.")
    async def task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter | None, strawberry.argument(description="Which runs; left out, all of them.")
        ] = None,
        first: Annotated[
            int | None, strawberry.argument(description="How many at most: 0 to 1,000; left out, 50.")
        ] = None,
    ) -> TaskRunPage | TaskRunRowPage:
        wanted = read_filter("filter", filter)
        size = DEFAULT_PAGE if first is None else read_count("first", first, least=0, most=LARGEST_PAGE)
        if (plan := connection_plan(info)) is not None:
            paths = (*plan.paths, "id")
            rows, goes_on, now = await info.context.database.read(
                lambda connection: task_runs.list_task_run_rows(connection, wanted, size, paths)
            )
            with suppress(NotPlain):
                cursors = [cursor_of(row[-1]) for row in rows] if plan.has_cursors else [""] * len(rows)
                return TaskRunRowPage(
                    nodes=plan.nodes(rows, now),
                    edges=plan.edges(rows, now, cursors),
                    page_info=page_info(cursors, has_next_page=goes_on),
                    filter=wanted,
                )
        page = await info.context.database.read(lambda connection: task_runs.list_task_runs(connection, wanted, size))
        return TaskRunPage(page, wanted)

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
            with suppress(NotPlain):
                return None if row is None else plan.complete(row, now)
        (record,) = await info.context.database.read(lambda connection: flow_runs.read_flow_runs(connection, ids))
        return record

    @strawberry.field(graphql_type=Flow | None, description="One flow; null where none has this id.")
    async def flow(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The flow's id.")]
    ) -> FlowRecord | None:
        ids = [read_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_flows(connection, ids))
        return record

    @strawberry.field(graphql_type=Deployment | None, description="One deployment; null where none has this id.")
    async def deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The deployment's id.")]
    ) -> DeploymentRecord | None:
        ids = [read_id("id", id)]
        (record,) = await info.context.database.read(lambda connection: flows.read_deployments(connection, ids))
        return record

    @strawberry.field(
        graphql_type=ConcurrencyLimit | None, description="The concurrency limit of a tag; null where it has none."
    )
    async def concurrency_limit(
        self, info: Info, tag: Annotated[str, strawberry.argument(description="The tag, exactly.")]
    ) -> LimitWithSlots | None:
        (limit,) = await info.context.database.read(lambda connection: concurrency.read_limits(connection, [tag]))
        return limit

    @strawberry.field(
        graphql_type=list[ConcurrencyLimit], description="Every concurrency limit, in the order of the tags."
    )
    async def concurrency_limits(self, info: Info) -> list[LimitWithSlots]:
        return await info.context.database.read(concurrency.list_limits)

    @strawberry.field(graphql_type=ServerInfo, description="The server that answers you.")
    def server(self, info: Info) -> Server:
        return info.context.server
