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


@strawberry.type(description="Program. Its executions are flow runs.")
class Flow(Node):
    id: strawberry.ID = strawberry.field(description="Id of the flow.")
    created: DateTime = strawberry.field(name="createdAt", description="Time of creation.")
    updated: DateTime = strawberry.field(name="updatedAt", description="Time of the last change.")
    name: str = strawberry.field(description="Name of the flow, unique among flows.")
    tags: list[str] = strawberry.field(description="Tags of the flow, in the order in which they were given.")

    @strawberry.field(
        description="Page of the flow runs of this flow.",
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
        list_query = lists.flow_runs(parse_filter("filter", filter), sort, flow_id=self.id)
        return await connection_result(info, list_query, first, after, last, before, offset)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, FlowRecord)


@strawberry.type(
    description=(
        "Configured way of running a flow. Flow runs that are created from it receive its work queue name and its tags."
    )
)
class Deployment(Node):
    id: strawberry.ID = strawberry.field(description="Id of the deployment.")
    created: DateTime = strawberry.field(name="createdAt", description="Time of creation.")
    updated: DateTime = strawberry.field(name="updatedAt", description="Time of the last change.")
    name: str = strawberry.field(description="Name of the deployment, unique within its flow.")
    flow_id: strawberry.ID = strawberry.field(description="Id of the flow that the deployment belongs to.")
    tags: list[str] = strawberry.field(
        description="Tags of the deployment, in the order in which they were given. They are copied to its flow runs."
    )
    work_queue_name: str | None = strawberry.field(
        description="Work queue name, copied to the deployment's flow runs. Null when none was given."
    )
    is_schedule_active: bool = strawberry.field(
        description=(
            "Whether the deployment is marked as having an active schedule. Runyard has no schedules: it stores "
            "the value and does not use it."
        )
    )

    @strawberry.field(description="Flow that the deployment belongs to.", graphql_type=Flow)
    async def flow(self, info: Info) -> FlowRecord:
        flow = await info.context.loaders.flows.load(self.flow_id)
        assert flow is not None
        return flow

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, DeploymentRecord)


@strawberry.type(description="Page of a list of flows.")
class FlowConnection(ListConnection[Flow]):
    pass


@strawberry.type(description="Page of a list of deployments.")
class DeploymentConnection(ListConnection[Deployment]):
    pass
