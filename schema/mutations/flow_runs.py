"""Mutations of flows, deployments and flow runs."""

from typing import Annotated

import strawberry

from resolvers import flow_runs, flows
from resolvers.flow_runs import CreatedFlowRun
from resolvers.flows import CreatedDeployment, CreatedFlow
from resolvers.transitions import set_states
from resolvers.transitions.set_states import FlowRunTransitionResult, StateChange
from schema.context import Info
from schema.errors import prefix_argument_path
from schema.inputs.arguments import (
    parse_id,
)
from schema.inputs.mutations import (
    DeploymentCreateInput,
    FlowCreateInput,
    FlowRunCreateInput,
    StateArgument,
)
from schema.results import (
    DeletedObject,
)
from schema.types.payloads import (
    DeletePayload,
    DeploymentCreatePayload,
    FlowCreatePayload,
    FlowRunCreatePayload,
    FlowRunOrchestrationResult,
)

FlowRunForceArgument = Annotated[
    bool,
    strawberry.argument(
        description="Whether to set the state without applying orchestration rules. Defaults to false."
    ),
]


@strawberry.type
class FlowRunMutations:
    @strawberry.mutation(
        graphql_type=FlowCreatePayload | None,
        description="Create a flow, or return the existing one with the same name unchanged.",
    )
    async def create_flow(
        self, info: Info, input: Annotated[FlowCreateInput, strawberry.argument(description="Flow to create.")]
    ) -> CreatedFlow:
        return await info.context.database.write(flows.create_flows, input.parse("input"))

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete a flow together with its deployments, flow runs, task runs and all their states. Returns the "
            "deleted id, or fails with `NOT_FOUND`."
        ),
    )
    async def delete_flow(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the flow.")]
    ) -> DeletedObject:
        return DeletedObject(await info.context.database.write(flows.delete_flows, parse_id("id", id)))

    @strawberry.mutation(
        graphql_type=DeploymentCreatePayload | None,
        description=(
            "Create a deployment, or return the existing one with the same flow and name unchanged. Fails with "
            "`NOT_FOUND` when the flow does not exist."
        ),
    )
    async def create_deployment(
        self,
        info: Info,
        input: Annotated[DeploymentCreateInput, strawberry.argument(description="Deployment to create.")],
    ) -> CreatedDeployment:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(flows.create_deployments, parsed)

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete a deployment and its SCHEDULED flow runs. Its other flow runs are kept. Returns the deleted "
            "id, or fails with `NOT_FOUND`."
        ),
    )
    async def delete_deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the deployment.")]
    ) -> DeletedObject:
        return DeletedObject(await info.context.database.write(flows.delete_deployments, parse_id("id", id)))

    @strawberry.mutation(
        graphql_type=FlowRunCreatePayload | None,
        description=(
            "Create a flow run, or return the existing one with the same flow and idempotency key unchanged. "
            "Fails with `NOT_FOUND` when the flow, the deployment or the parent task run does not exist."
        ),
    )
    async def create_flow_run(
        self,
        info: Info,
        input: Annotated[FlowRunCreateInput, strawberry.argument(description="Flow run to create.")],
    ) -> CreatedFlowRun:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(flow_runs.create_flow_runs, parsed)

    @strawberry.mutation(
        graphql_type=FlowRunOrchestrationResult | None,
        description=(
            "Propose a state for a flow run. The orchestration rules accept it, set another state instead, delay "
            "it or refuse it; `status` reports the decision, which is never an error. Fails with `NOT_FOUND` when "
            "no flow run has the id."
        ),
    )
    async def set_flow_run_state(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Id of the flow run.")],
        state: StateArgument,
        force: FlowRunForceArgument = False,
    ) -> FlowRunTransitionResult:
        change = StateChange(parse_id("id", id), state.parse("state"), force)
        return await info.context.database.write(set_states.set_flow_run_states, change)

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete a flow run together with its task runs and all their states. Returns the deleted id, or fails "
            "with `NOT_FOUND`."
        ),
    )
    async def delete_flow_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Id of the flow run.")]
    ) -> DeletedObject:
        return DeletedObject(await info.context.database.write(flow_runs.delete_flow_runs, parse_id("id", id)))
