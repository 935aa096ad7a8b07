"""Mutations of task runs: create, update, delete, set states."""

from typing import Annotated

import strawberry

from db.database import in_own_transaction
from resolvers import task_run_updates, task_runs
from resolvers.task_runs import CreatedTaskRun, FilteredDeletion, FilteredDeletionResult
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult
from schema.context import Info
from schema.errors import prefix_argument_path
from schema.inputs.arguments import (
    parse_id,
    parse_optional_id,
    validate_batch_size,
    validate_count,
)
from schema.inputs.filters import TaskRunFilter, parse_filter
from schema.inputs.mutations import (
    StateArgument,
    TaskRunCreateInput,
    TaskRunStateChangeInput,
)
from schema.inputs.task_run_fields import TaskRunUpdateInput
from schema.limits.options import MAX_BATCH_SIZE
from schema.results import (
    BatchResults,
    DeletedObject,
    StateChangeResult,
    TaskRunCreation,
    UpdatedTaskRun,
)
from schema.types.payloads import (
    DeletePayload,
    TaskRunCreatePayload,
    TaskRunOrchestrationResult,
    TaskRunsCreatePayload,
    TaskRunsDeletePayload,
    TaskRunStatesPayload,
    TaskRunUpdatePayload,
)

TaskRunIdArgument = Annotated[strawberry.ID, strawberry.argument(description="Id of the task run.")]
ForceArgument = Annotated[
    bool,
    strawberry.argument(
        description=(
            "Whether to set the state without applying orchestration rules. Defaults to false; true requires the "
            "scope `write`. Has no effect when `leaseId` has expired or is not the run's current lease."
        )
    ),
]


@strawberry.type
class TaskRunMutations:
    @strawberry.mutation(
        graphql_type=TaskRunCreatePayload | None,
        description=(
            "Create a task run, or return the existing one with the same keys: the run with the same `dynamicKey`, or the "
            "run with the same `uniqueKey` that has not ended. A SCHEDULED run without a flow run "
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
            "none is created and the request fails with its error code, unless `partial` is set. Results are in the "
            "order of the inputs."
        ),
    )
    async def create_task_runs(
        self,
        info: Info,
        inputs: Annotated[
            list[TaskRunCreateInput], strawberry.argument(description="Task runs to create, at most 1,000.")
        ],
        partial: Annotated[
            bool,
            strawberry.argument(
                description=(
                    "Whether to create the other task runs when some fail with `QUEUE_FULL`, `NOT_FOUND` or `CONFLICT`; "
                    "those have an `error`. Defaults to false. Invalid input fails the whole request in any case."
                )
            ),
        ] = False,
    ) -> BatchResults[TaskRunCreation]:
        validate_batch_size("inputs", inputs)
        parsed = [input.parse(f"inputs.{index}") for index, input in enumerate(inputs)]
        database, writes = info.context.database, info.context.writes
        if partial:
            results = await database.write_all(writes.create_task_runs, parsed)
        else:
            with prefix_argument_path("inputs"):
                results = await database.write(writes.create_all_task_runs, parsed)
        return BatchResults(
            [TaskRunCreation.from_result(result, f"inputs.{index}") for index, result in enumerate(results)]
        )

    @strawberry.mutation(
        graphql_type=TaskRunUpdatePayload | None,
        description=(
            "Change the name, tags, metadata, priority or expiry of a task run. Fails with `NOT_FOUND` when no task run "
            "has the id."
        ),
    )
    async def update_task_run(
        self,
        info: Info,
        id: TaskRunIdArgument,
        input: Annotated[TaskRunUpdateInput, strawberry.argument(description="Changes to the task run.")],
    ) -> UpdatedTaskRun:
        update = input.parse(parse_id("id", id))
        return UpdatedTaskRun(await info.context.database.write(task_run_updates.update_task_runs, update))

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
        return await info.context.database.write(in_own_transaction(task_runs.delete_filtered_task_runs), deletion)

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
        return BatchResults(StateChangeResult.from_results(changes, results, "inputs"))
