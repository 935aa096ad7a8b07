"""Fields of `Mutation`. Each parses its arguments and calls one write operation."""

from typing import Annotated

import strawberry

from resolvers import concurrency_limits, flow_runs, flows, task_runs
from resolvers.concurrency_limits import LimitReset, LimitSetting
from resolvers.delivery import leases
from resolvers.delivery.claim import MAX_CLAIM_SIZE
from resolvers.delivery.leases import Release, Renewal
from resolvers.flow_runs import CreatedFlowRun
from resolvers.flows import CreatedDeployment, CreatedFlow
from resolvers.task_runs import CreatedTaskRun, FilteredDeletion, FilteredDeletionResult
from resolvers.transitions import set_states
from resolvers.transitions.set_states import FlowRunTransitionResult, StateChange, TaskRunTransitionResult
from schema.context import Info
from schema.errors import prefix_argument_path
from schema.inputs.arguments import (
    MAX_LEASE_SECONDS,
    MAX_WAIT_SECONDS,
    LeaseSecondsArgument,
    TaskKeysArgument,
    WorkerNameArgument,
    parse_id,
    parse_ids,
    parse_optional_id,
    validate_batch_size,
    validate_count,
    validate_key,
    validate_seconds,
    validate_task_keys,
)
from schema.inputs.filters import TaskRunFilter, parse_filter
from schema.inputs.mutations import (
    DeploymentCreateInput,
    FlowCreateInput,
    FlowRunCreateInput,
    StateInput,
    TaskRunCreateInput,
    TaskRunStateChangeInput,
    TaskRunUpdateInput,
)
from schema.limits.options import MAX_BATCH_SIZE
from schema.results import (
    BatchResults,
    ChangedLimit,
    ClaimedTaskRuns,
    DeletedObject,
    LeaseResults,
    StateChangeResult,
    TaskRunCreation,
    UpdatedTaskRun,
)
from schema.types.payloads import (
    ConcurrencyLimitPayload,
    DeletePayload,
    DeploymentCreatePayload,
    FlowCreatePayload,
    FlowRunCreatePayload,
    FlowRunOrchestrationResult,
    LeasesPayload,
    TaskRunCreatePayload,
    TaskRunOrchestrationResult,
    TaskRunsClaimPayload,
    TaskRunsCreatePayload,
    TaskRunsDeletePayload,
    TaskRunStatesPayload,
    TaskRunUpdatePayload,
)

TaskRunIdArgument = Annotated[strawberry.ID, strawberry.argument(description="Id of the task run.")]
StateArgument = Annotated[StateInput, strawberry.argument(description="Proposed state.")]
ForceArgument = Annotated[
    bool,
    strawberry.argument(
        description=(
            "Whether to set the state without applying orchestration rules. Defaults to false; true requires the "
            "scope `write`. Has no effect when `leaseId` has expired or is not the run's current lease."
        )
    ),
]
FlowRunForceArgument = Annotated[
    bool,
    strawberry.argument(
        description="Whether to set the state without applying orchestration rules. Defaults to false."
    ),
]


@strawberry.type(
    description=(
        "Mutations. The result of a field is sent after its changes are committed to disk; a field that fails is null "
        "and has an error, and the others keep their results. Available over HTTP, WebSocket "
        "(`graphql-transport-ws`) and Server-Sent Events (`graphql-sse`)."
    )
)
class Mutation:
    @strawberry.mutation(
        graphql_type=TaskRunCreatePayload | None,
        description=(
            "Create a task run, or return the existing one with the same keys. A SCHEDULED run without a flow run "
            "is queued for workers of its `taskKey` in the same transaction. Fails with `QUEUE_FULL` when the "
            "key's queue has reached its limit, with `NOT_FOUND` when the flow run does not exist, and with "
            "`CONFLICT` when the rules do not accept the first state."
        ),
    )
    async def create_task_run(
        self,
        info: Info,
        input: Annotated[TaskRunCreateInput, strawberry.argument(description="Task run to create.")],
    ) -> CreatedTaskRun:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(info.context.writes.create_task_runs, parsed)

    @strawberry.mutation(
        graphql_type=TaskRunsCreatePayload | None,
        description=(
            "Create up to 1,000 task runs in one transaction, each as `createTaskRun` does. If one of them fails, "
            "none is created and the request fails with its error code. Results are in the order of the inputs."
        ),
    )
    async def create_task_runs(
        self,
        info: Info,
        inputs: Annotated[
            list[TaskRunCreateInput], strawberry.argument(description="Task runs to create, at most 1,000.")
        ],
    ) -> BatchResults[TaskRunCreation]:
        validate_batch_size("inputs", inputs)
        parsed = [input.parse(f"inputs.{index}") for index, input in enumerate(inputs)]
        with prefix_argument_path("inputs"):
            created = await info.context.database.write(info.context.writes.create_all_task_runs, parsed)
        return BatchResults([TaskRunCreation.from_created(each) for each in created])

    @strawberry.mutation(
        graphql_type=TaskRunUpdatePayload | None,
        description="Rename a task run. Fails with `NOT_FOUND` when no task run has the id.",
    )
    async def update_task_run(
        self,
        info: Info,
        id: TaskRunIdArgument,
        input: Annotated[TaskRunUpdateInput, strawberry.argument(description="Changes to the task run.")],
    ) -> UpdatedTaskRun:
        update = input.parse(parse_id("id", id))
        return UpdatedTaskRun(await info.context.database.write(task_runs.update_task_runs, update))

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete a task run in any state, together with its state history, cached results, queue entry and "
            "concurrency slots. A worker that holds its lease loses it. Returns the deleted id, or fails with "
            "`NOT_FOUND`."
        ),
    )
    async def delete_task_run(self, info: Info, id: TaskRunIdArgument) -> DeletedObject:
        return DeletedObject(await info.context.database.write(task_runs.delete_task_runs, parse_id("id", id)))

    @strawberry.mutation(
        graphql_type=TaskRunsDeletePayload | None,
        description=(
            "Delete the task runs that match a filter, oldest first, in one transaction, each as `deleteTaskRun` "
            "does. Repeat the request while `hasMore` is true. Fails with `BAD_USER_INPUT` when the filter has no "
            "condition."
        ),
    )
    async def delete_task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter,
            strawberry.argument(
                description=(
                    "Filter for the task runs to delete. At least one condition is required; `{id: {isNull: false}}` "
                    "matches every task run."
                )
            ),
        ],
        limit: Annotated[
            int,
            strawberry.argument(description="Maximum number of task runs to delete, 1 to 1,000. Defaults to 1,000."),
        ] = MAX_BATCH_SIZE,
        dry_run: Annotated[
            bool,
            strawberry.argument(description="Whether to count the task runs without deleting them. Defaults to false."),
        ] = False,
    ) -> FilteredDeletionResult:
        max_count = validate_count("limit", limit, minimum=1, maximum=MAX_BATCH_SIZE)
        deletion = FilteredDeletion(parse_filter("filter", filter), max_count)
        if dry_run:
            return await info.context.database.read(lambda connection: task_runs.count_deletions(connection, deletion))
        return await info.context.database.write(task_runs.delete_filtered_task_runs, deletion)

    @strawberry.mutation(
        graphql_type=TaskRunOrchestrationResult | None,
        description=(
            "Propose a state for a task run. The orchestration rules accept it, set another state instead, delay "
            "it or refuse it; `status` reports the decision, which is never an error. Fails with `NOT_FOUND` when "
            "no task run has the id, and with `QUEUE_FULL` when the state would queue the run and the queue has "
            "reached its limit."
        ),
    )
    async def set_task_run_state(
        self,
        info: Info,
        id: TaskRunIdArgument,
        state: StateArgument,
        force: ForceArgument = False,
        lease_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description=(
                    "Id of the lease that the worker holds on the run. Naming it acknowledges the delivery. When the "
                    "lease is no longer held, nothing changes and a new proposal returns ABORT. Without it, the scope "
                    "`write` is required."
                )
            ),
        ] = None,
    ) -> TaskRunTransitionResult:
        change = StateChange(parse_id("id", id), state.parse("state"), force, parse_optional_id("leaseId", lease_id))
        return await info.context.database.write(info.context.writes.set_task_run_states, change)

    @strawberry.mutation(
        graphql_type=TaskRunStatesPayload | None,
        description=(
            "Propose up to 1,000 states in one transaction, in order, each as `setTaskRunState` does. An item "
            "that fails with `NOT_FOUND` or `QUEUE_FULL` has an `error` and does not affect the others. An "
            "invalid item fails the whole request with `BAD_USER_INPUT`."
        ),
    )
    async def set_task_run_states(
        self,
        info: Info,
        inputs: Annotated[
            list[TaskRunStateChangeInput], strawberry.argument(description="Proposed states, at most 1,000.")
        ],
    ) -> BatchResults[StateChangeResult]:
        validate_batch_size("inputs", inputs)
        changes = [input.parse(f"inputs.{index}") for index, input in enumerate(inputs)]
        results = await info.context.database.write_all(info.context.writes.set_task_run_states, changes)
        return BatchResults(
            [
                StateChangeResult.from_result(change.run_id, result, f"inputs.{index}")
                for index, (change, result) in enumerate(zip(changes, results, strict=True))
            ]
        )

    @strawberry.mutation(
        graphql_type=TaskRunsClaimPayload | None,
        description=(
            "Claim due background runs of these task keys, each under a lease, without a subscription. Returns as "
            "soon as a run is due, or an empty list after `waitSeconds` or when the server stops. Runs that are "
            "not acknowledged within 30 seconds (or the server's `RUNYARD_ACKNOWLEDGE_SECONDS`) are redelivered."
        ),
    )
    async def claim_task_runs(
        self,
        info: Info,
        task_keys: TaskKeysArgument,
        limit: Annotated[
            int,
            strawberry.argument(
                description="Maximum number of runs to claim, 1 to 500. Defaults to 1. Fewer runs may be returned."
            ),
        ] = 1,
        lease_seconds: LeaseSecondsArgument = 60,
        wait_seconds: Annotated[
            float,
            strawberry.argument(
                description=(
                    "Maximum time to wait for a due run, in seconds, 0 to 60. Defaults to 0, for runs that are due now. "
                    "When the client disconnects while it waits, runs that were claimed for it are requeued at once."
                )
            ),
        ] = 0,
        worker_name: WorkerNameArgument = None,
    ) -> ClaimedTaskRuns:
        wait_seconds = validate_seconds("waitSeconds", wait_seconds, minimum=0, maximum=MAX_WAIT_SECONDS)
        info.context.extend_deadline(wait_seconds)
        deliveries = await info.context.dispatcher.claim(
            validate_task_keys("taskKeys", task_keys),
            limit=validate_count("limit", limit, minimum=1, maximum=MAX_CLAIM_SIZE),
            lease_seconds=validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS),
            wait_seconds=wait_seconds,
            worker_name=worker_name,
        )
        return ClaimedTaskRuns(deliveries)

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Acknowledge delivered task runs. An acknowledged lease no longer ends with the subscription and "
            "lasts for the requested `leaseSeconds`. The runs no longer count toward `prefetch`; setting a state "
            "with the `leaseId` has the same effects."
        ),
    )
    async def acknowledge_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        ids = parse_ids("leaseIds", lease_ids)
        return LeaseResults(await info.context.database.write_all(leases.acknowledge_leases, ids))

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Renew leases, which then expire `leaseSeconds` from now; renewing acknowledges them too. Send one "
            "request for all leases of a worker, about every third of the lease time. Check `cancelRequested` in "
            "the results."
        ),
    )
    async def renew_task_run_leases(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
        lease_seconds: Annotated[
            float,
            strawberry.argument(description="Duration of the leases from now in seconds, 1 to 86,400. Defaults to 60."),
        ] = 60,
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS)
        renewals = [Renewal(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return LeaseResults(await leases.renew_all_leases(info.context.database, renewals))

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Release these leases and requeue their task runs. PENDING and RUNNING runs become SCHEDULED; "
            "CANCELLING runs become CANCELLED, PAUSED runs stay PAUSED, and neither are requeued. A released RUNNING "
            "does not count in `runCount`. A run whose worker has received WAIT for a concurrency slot waits for the "
            "slot, and not for `delaySeconds`."
        ),
    )
    async def release_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
        delay_seconds: Annotated[
            float,
            strawberry.argument(
                description="Delay until the task runs are due again, in seconds, 0 to 86,400. Defaults to 0."
            ),
        ] = 0,
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("delaySeconds", delay_seconds, minimum=0, maximum=MAX_LEASE_SECONDS)
        releases = [Release(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return LeaseResults(await info.context.database.write_all(leases.release_leases, releases))

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

    @strawberry.mutation(
        graphql_type=ConcurrencyLimitPayload | None,
        description=(
            "Create the concurrency limit of a tag, or change the existing one. Runs that hold slots keep them, "
            "even if they exceed a lower limit. Runs that are already RUNNING when the limit is created hold no "
            "slots."
        ),
    )
    async def set_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str,
            strawberry.argument(
                description="Tag to limit, at most 1,000 bytes. Tags are compared exactly, including their case."
            ),
        ],
        limit: Annotated[
            int,
            strawberry.argument(
                description="Number of slots: how many runs with the tag may be RUNNING at a time. At 0 or below, none may."
            ),
        ],
    ) -> ChangedLimit:
        setting = LimitSetting(validate_key("tag", tag), limit)
        return ChangedLimit(await info.context.database.write(concurrency_limits.set_limits, setting))

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete the concurrency limit of a tag. Returns the deleted id, or fails with `NOT_FOUND` when the "
            "tag has no limit."
        ),
    )
    async def delete_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str, strawberry.argument(description="Tag of the limit. Tags are compared exactly, including their case.")
        ],
    ) -> DeletedObject:
        return DeletedObject(await info.context.database.write(concurrency_limits.delete_limits, tag))

    @strawberry.mutation(
        graphql_type=ConcurrencyLimitPayload | None,
        description=(
            "Replace the task runs that hold the slots of a tag's concurrency limit. Fails with `NOT_FOUND` when "
            "the tag has no limit or a task run does not exist."
        ),
    )
    async def reset_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str, strawberry.argument(description="Tag of the limit. Tags are compared exactly, including their case.")
        ],
        task_run_ids: Annotated[
            list[strawberry.ID] | None,
            strawberry.argument(
                description="Ids of the task runs that hold the slots from now on. Defaults to none, which frees all slots."
            ),
        ] = None,
    ) -> ChangedLimit:
        run_ids = parse_ids("taskRunIds", task_run_ids or [])
        return ChangedLimit(
            await info.context.database.write(concurrency_limits.reset_limits, LimitReset(tag, run_ids))
        )
