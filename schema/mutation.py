"""Fields of `Mutation`. Each parses its arguments and calls one write operation."""

from typing import Annotated

import strawberry

from db.records import TaskRunRecord
from resolvers import concurrency_limits, flow_runs, flows, task_runs
from resolvers.concurrency_limits import LimitReset, LimitWithSlots, NewLimit
from resolvers.delivery import leases
from resolvers.delivery.claim import MAX_CLAIM_SIZE, Delivery
from resolvers.delivery.leases import LeaseResult as LeaseResultRecord
from resolvers.delivery.leases import Release, Renewal
from resolvers.flow_runs import CreatedFlowRun
from resolvers.flows import CreatedDeployment, CreatedFlow
from resolvers.task_runs import CreatedTaskRun, FilteredDeletion, FilteredDeletionResult
from resolvers.transitions import set_states
from resolvers.transitions.set_states import FlowRunTransitionResult, StateChange, TaskRunTransitionResult
from schema.context import Info
from schema.errors import RowResult, prefix_argument_path, to_row_result
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
from schema.types.concurrency_limits import ConcurrencyLimit
from schema.types.leases import LeaseResult, ScheduledTaskRun
from schema.types.payloads import (
    DeploymentCreatePayload,
    FlowCreatePayload,
    FlowRunCreatePayload,
    FlowRunOrchestrationResult,
    TaskRunCreatePayload,
    TaskRunOrchestrationResult,
    TaskRunsDeletePayload,
    TaskRunStateChangeResult,
)
from schema.types.task_runs import TaskRun

TaskRunIdArgument = Annotated[strawberry.ID, strawberry.argument(description="The task run's id.")]
StateArgument = Annotated[StateInput, strawberry.argument(description="The state that you propose.")]
ForceArgument = Annotated[
    bool | None,
    strawberry.argument(description="Take the state without asking the rules. A lost lease changes nothing even so."),
]


@strawberry.type(description="What you can change. An answer without errors is on disk.")
class Mutation:
    @strawberry.mutation(
        graphql_type=TaskRunCreatePayload,
        description="Create a task run, or find the one with the same keys. A background run that is SCHEDULED is "
        "queued for the workers of its `taskKey` in the same transaction; where as many wait as may, it is refused as "
        "`QUEUE_FULL`.",
    )
    async def create_task_run(
        self,
        info: Info,
        input: Annotated[TaskRunCreateInput, strawberry.argument(description="The run to create.")],
    ) -> CreatedTaskRun:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(info.context.writes.create_task_runs, parsed)

    @strawberry.mutation(
        graphql_type=list[TaskRunCreatePayload],
        description="Create up to 1,000 task runs in one transaction: all of them or, if one is refused, none. "
        "Results in the order of the inputs.",
    )
    async def create_task_runs(
        self,
        info: Info,
        inputs: Annotated[list[TaskRunCreateInput], strawberry.argument(description="The runs to create.")],
    ) -> list[CreatedTaskRun]:
        validate_batch_size("inputs", inputs)
        parsed = [input.parse(f"inputs.{index}") for index, input in enumerate(inputs)]
        with prefix_argument_path("inputs"):
            return await info.context.database.write(info.context.writes.create_all_task_runs, parsed)

    @strawberry.mutation(graphql_type=TaskRun, description="Rename a task run.")
    async def update_task_run(
        self,
        info: Info,
        id: TaskRunIdArgument,
        input: Annotated[TaskRunUpdateInput, strawberry.argument(description="What to change.")],
    ) -> TaskRunRecord:
        update = input.parse(parse_id("id", id))
        return await info.context.database.write(task_runs.update_task_runs, update)

    @strawberry.mutation(
        graphql_type=strawberry.ID,
        description="Delete a task run in whatever state, with its states, its place in the queue and its slots. "
        "A worker that has it loses its lease. Answers its id.",
    )
    async def delete_task_run(self, info: Info, id: TaskRunIdArgument) -> str:
        return await info.context.database.write(task_runs.delete_task_runs, parse_id("id", id))

    @strawberry.mutation(
        graphql_type=TaskRunsDeletePayload,
        description="Delete the task runs that a filter lets through, the oldest first, in one transaction; each as "
        "`deleteTaskRun` does. Repeat it while `hasMore` is true.",
    )
    async def delete_task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter,
            strawberry.argument(
                description="Which runs. One without a condition is refused; `{id: {isNull: false}}` is all runs."
            ),
        ],
        limit: Annotated[int | None, strawberry.argument(description="How many at most: 1 to 1,000.")] = 1000,
        dry_run: Annotated[bool | None, strawberry.argument(description="Only count what would be deleted.")] = False,
    ) -> FilteredDeletionResult:
        max_count = (
            MAX_BATCH_SIZE if limit is None else validate_count("limit", limit, minimum=1, maximum=MAX_BATCH_SIZE)
        )
        deletion = FilteredDeletion(parse_filter("filter", filter), max_count)
        if dry_run:
            return await info.context.database.read(lambda connection: task_runs.count_deletions(connection, deletion))
        return await info.context.database.write(task_runs.delete_filtered_task_runs, deletion)

    @strawberry.mutation(
        graphql_type=TaskRunOrchestrationResult,
        description="Propose a state for a task run. The rules accept it, put another one in its place, or refuse; "
        "each of these is an answer, not an error.",
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
                description="The lease that you have the run under. Naming it acknowledges it; a lost one changes nothing."
            ),
        ] = None,
    ) -> TaskRunTransitionResult:
        change = StateChange(
            parse_id("id", id), state.parse("state"), bool(force), parse_optional_id("leaseId", lease_id)
        )
        return await info.context.database.write(info.context.writes.set_task_run_states, change)

    @strawberry.mutation(
        graphql_type=list[TaskRunStateChangeResult],
        description="Propose up to 1,000 states in one transaction, each orchestrated by itself, in order. A refused one "
        "has an `error` of its own and takes no other with it.",
    )
    async def set_task_run_states(
        self,
        info: Info,
        inputs: Annotated[list[TaskRunStateChangeInput], strawberry.argument(description="The changes.")],
    ) -> list[RowResult[TaskRunTransitionResult]]:
        validate_batch_size("inputs", inputs)
        changes = [input.parse(f"inputs.{index}") for index, input in enumerate(inputs)]
        results = await info.context.database.write_all(info.context.writes.set_task_run_states, changes)
        return [to_row_result(change.id, result) for change, result in zip(changes, results, strict=True)]

    @strawberry.mutation(
        graphql_type=list[ScheduledTaskRun],
        description="One claim, for workers without a WebSocket: up to `limit` scheduled background runs of these keys, "
        "under the same leases and in the same turns as `scheduledTaskRuns`. Answers as soon as there is one run, and "
        "with none once `waitSeconds` are over or the server stops. The leases outlive the answer: acknowledge them, or "
        "they go to somebody else after 30 seconds (or what the server is set to). What is claimed for a client that has "
        "stopped waiting is given back at once; an answer that is lost on its way, by the same 30 seconds.",
    )
    async def claim_task_runs(
        self,
        info: Info,
        task_keys: TaskKeysArgument,
        limit: Annotated[
            int, strawberry.argument(description="How many runs at most: 1 to 500. You may be given fewer.")
        ] = 1,
        lease_seconds: LeaseSecondsArgument = 60,
        wait_seconds: Annotated[
            float,
            strawberry.argument(
                description="How long to wait for a run to come due: 0 to 60 seconds. With 0, what is due now."
            ),
        ] = 0,
        worker_name: WorkerNameArgument = None,
    ) -> list[Delivery]:
        wait_seconds = validate_seconds("waitSeconds", wait_seconds, minimum=0, maximum=MAX_WAIT_SECONDS)
        info.context.extend_deadline(wait_seconds)
        return await info.context.dispatcher.claim(
            validate_task_keys("taskKeys", task_keys),
            limit=validate_count("limit", limit, minimum=1, maximum=MAX_CLAIM_SIZE),
            lease_seconds=validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS),
            wait_seconds=wait_seconds,
            worker_name=worker_name,
        )

    @strawberry.mutation(
        graphql_type=list[LeaseResult],
        description="Say that you have taken over the runs of these leases. From then on a lease outlives your "
        "subscription and runs for the time you asked for, and you may be given as many runs more. Naming a lease when "
        "you set its run's state does the same.",
    )
    async def acknowledge_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[
            list[strawberry.ID], strawberry.argument(description="The leases, up to 1,000, as they were delivered.")
        ],
    ) -> list[LeaseResultRecord | Exception]:
        validate_batch_size("leaseIds", lease_ids)
        return await info.context.database.write_all(leases.acknowledge_leases, parse_ids("leaseIds", lease_ids))

    @strawberry.mutation(
        graphql_type=list[LeaseResult],
        description="The heartbeat: let these leases run on from now, one call for all that you hold. A third of the "
        "lease time is a good beat. Look at `cancelRequested`.",
    )
    async def renew_task_run_leases(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="The leases, up to 1,000.")],
        lease_seconds: Annotated[
            float, strawberry.argument(description="For how long, from now: 1 to 86,400 seconds.")
        ] = 60,
    ) -> list[LeaseResultRecord | Exception]:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS)
        renewals = [Renewal(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return await info.context.database.write_all(leases.renew_leases, renewals)

    @strawberry.mutation(
        graphql_type=list[LeaseResult],
        description="Hand these runs back, unfinished. They are due again after `delaySeconds`, at the head of their "
        "keys; one that was told to wait for a concurrency slot, as soon as one is free.",
    )
    async def release_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="The leases, up to 1,000.")],
        delay_seconds: Annotated[
            float, strawberry.argument(description="When they are due again: 0 to 86,400 seconds from now.")
        ] = 0,
    ) -> list[LeaseResultRecord | Exception]:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("delaySeconds", delay_seconds, minimum=0, maximum=MAX_LEASE_SECONDS)
        releases = [Release(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return await info.context.database.write_all(leases.release_leases, releases)

    @strawberry.mutation(
        graphql_type=FlowCreatePayload,
        description="Create a flow, or find the one with the same name, which is not changed.",
    )
    async def create_flow(
        self, info: Info, input: Annotated[FlowCreateInput, strawberry.argument(description="The flow to create.")]
    ) -> CreatedFlow:
        return await info.context.database.write(flows.create_flows, input.parse("input"))

    @strawberry.mutation(
        graphql_type=strawberry.ID,
        description="Delete a flow with its deployments, flow runs, task runs and all their states. Answers its id.",
    )
    async def delete_flow(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The flow's id.")]
    ) -> str:
        return await info.context.database.write(flows.delete_flows, parse_id("id", id))

    @strawberry.mutation(
        graphql_type=DeploymentCreatePayload,
        description="Create a deployment, or find the one with the same flow and name, which is not changed.",
    )
    async def create_deployment(
        self,
        info: Info,
        input: Annotated[DeploymentCreateInput, strawberry.argument(description="The deployment to create.")],
    ) -> CreatedDeployment:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(flows.create_deployments, parsed)

    @strawberry.mutation(
        graphql_type=strawberry.ID,
        description="Delete a deployment, and those of its flow runs that are SCHEDULED; others stay. Answers its id.",
    )
    async def delete_deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The deployment's id.")]
    ) -> str:
        return await info.context.database.write(flows.delete_deployments, parse_id("id", id))

    @strawberry.mutation(
        graphql_type=FlowRunCreatePayload,
        description="Create a flow run, or find the one with the same flow and idempotency key, which is not changed.",
    )
    async def create_flow_run(
        self,
        info: Info,
        input: Annotated[FlowRunCreateInput, strawberry.argument(description="The flow run to create.")],
    ) -> CreatedFlowRun:
        parsed = input.parse("input")
        with prefix_argument_path("input"):
            return await info.context.database.write(flow_runs.create_flow_runs, parsed)

    @strawberry.mutation(
        graphql_type=FlowRunOrchestrationResult,
        description="Propose a state for a flow run. The rules' answer is never an error.",
    )
    async def set_flow_run_state(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The flow run's id.")],
        state: StateArgument,
        force: ForceArgument = False,
    ) -> FlowRunTransitionResult:
        change = StateChange(parse_id("id", id), state.parse("state"), bool(force))
        return await info.context.database.write(set_states.set_flow_run_states, change)

    @strawberry.mutation(
        graphql_type=strawberry.ID,
        description="Delete a flow run with its task runs and all their states. Answers its id.",
    )
    async def delete_flow_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The flow run's id.")]
    ) -> str:
        return await info.context.database.write(flow_runs.delete_flow_runs, parse_id("id", id))

    @strawberry.mutation(
        graphql_type=ConcurrencyLimit,
        description="Limit how many task runs with a tag run at a time; a limit that the tag has is changed. Runs that "
        "hold slots keep them, even beyond a lower limit. Runs that run already hold none.",
    )
    async def create_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[str, strawberry.argument(description="The tag, exactly.")],
        limit: Annotated[int, strawberry.argument(description="How many may run at a time; with 0 or less, none.")],
    ) -> LimitWithSlots:
        return await info.context.database.write(
            concurrency_limits.create_limits, NewLimit(validate_key("tag", tag), limit)
        )

    @strawberry.mutation(
        graphql_type=strawberry.ID, description="Take the limit off a tag. Answers the id that the limit had."
    )
    async def delete_concurrency_limit(
        self, info: Info, tag: Annotated[str, strawberry.argument(description="The tag, exactly.")]
    ) -> str:
        return await info.context.database.write(concurrency_limits.delete_limits, tag)

    @strawberry.mutation(
        graphql_type=ConcurrencyLimit,
        description="Give the slots of a tag's limit to these task runs and to nobody else.",
    )
    async def reset_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[str, strawberry.argument(description="The tag, exactly.")],
        active_slots: Annotated[
            list[strawberry.ID] | None, strawberry.argument(description="Ids of task runs; left out, none.")
        ] = None,
    ) -> LimitWithSlots:
        run_ids = parse_ids("activeSlots", active_slots or [])
        return await info.context.database.write(concurrency_limits.reset_limits, LimitReset(tag, run_ids))
