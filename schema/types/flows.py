"""GraphQL types of flows, deployments and pages of them."""

from typing import TYPE_CHECKING, Annotated

import strawberry

from db.records import DeploymentRecord, FlowRecord
from resolvers import lists
from schema.context import Info
from schema.enums import FlowRunSort
from schema.inputs.filters import FlowRunFilterArgument, FlowRunSortArgument, parse_filter
from schema.reads.pages import After, Before, ConnectionResult, First, Last, ListConnection, Offset, connection_result
from schema.scalars import DateTime
from schema.types.node import Node

if TYPE_CHECKING:
    from schema.types.flow_runs import FlowRunConnection


@strawberry.type(description="A program whose runs are kept together under one name.")
class Flow(Node):
    id: strawberry.ID = strawberry.field(description="Identifies the flow.")
    created: DateTime = strawberry.field(description="When it was created.")
    updated: DateTime = strawberry.field(description="When it was last changed.")
    name: str = strawberry.field(description="Unique among flows.")
    tags: list[str] = strawberry.field(description="In the order in which they were given.")

    @strawberry.field(
        description="A page of its flow runs.",
        graphql_type=Annotated["FlowRunConnection", strawberry.lazy("schema.types.flow_runs")],
    )
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
        list_query = lists.flow_runs(parse_filter("filter", filter), sort or FlowRunSort.ID_DESC, flow_id=self.id)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, FlowRecord)


@strawberry.type(description="A way in which a flow is run: from which work queue, and whether by schedule.")
class Deployment(Node):
    id: strawberry.ID = strawberry.field(description="Identifies the deployment.")
    created: DateTime = strawberry.field(description="When it was created.")
    updated: DateTime = strawberry.field(description="When it was last changed.")
    name: str = strawberry.field(description="Unique among the deployments of its flow.")
    flow_id: strawberry.ID = strawberry.field(description="The flow that it runs.")
    tags: list[str] = strawberry.field(description="In the order in which they were given; its flow runs get them too.")
    work_queue_name: str | None = strawberry.field(description="The work queue that its flow runs go to.")
    is_schedule_active: bool = strawberry.field(description="Whether its schedule makes flow runs.")

    @strawberry.field(description="The flow that it runs.", graphql_type=Flow)
    async def flow(self, info: Info) -> FlowRecord:
        flow = await info.context.loaders.flows.load(self.flow_id)
        assert flow is not None
        return flow

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, DeploymentRecord)


@strawberry.type(description="A page of a list of flows.")
class FlowConnection(ListConnection[Flow]):
    pass


@strawberry.type(description="A page of a list of deployments.")
class DeploymentConnection(ListConnection[Deployment]):
    pass
