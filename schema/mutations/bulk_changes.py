"""Fields of `Mutation` that change the runs that match a filter, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import strawberry

from db.database import in_own_transaction
from db.runtime.ids import canonical_id
from resolvers.bulk_changes.flow_runs import cancel_flow_runs, preview_cancellation
from resolvers.bulk_changes.pages import BulkChange, BulkChangeResult, Rejection
from resolvers.bulk_changes.task_runs import preview_change
from resolvers.bulk_changes.verbs import Cancellation, FlowRunCancellation, Rescheduling, Retry, TaskRunVerb
from resolvers.errors import BadInput
from resolvers.orchestration.transition import OrchestrationStatus
from schema.context import Info
from schema.inputs.arguments import MAX_LEASE_SECONDS, validate_count, validate_seconds
from schema.inputs.cursors import decode_cursor, encode_cursor
from schema.inputs.filters import FlowRunFilter, TaskRunFilter, parse_filter
from schema.limits.options import MAX_BATCH_SIZE
from schema.results import MutationFailure
from schema.scalars import DateTime
from schema.types.bulk_changes import FlowRunsChangePayload, TaskRunsChangePayload

CURSOR_VERSION = 1

_ONE_CONDITION = "At least one condition is required; `{id: {isNull: false}}` matches every run."
LimitArgument = Annotated[
    int, strawberry.argument(description="Maximum number of runs to examine, 1 to 1,000. Defaults to 1,000.")
]
AfterArgument = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor after which to continue: `endCursor` of the same mutation. Defaults to the oldest run."
    ),
]
DryRunArgument = Annotated[
    bool,
    strawberry.argument(
        description="Whether to return what the request would change, without changing it. Defaults to false."
    ),
]
MessageArgument = Annotated[
    str | None, strawberry.argument(description="Message of the states that are set. Defaults to null.")
]


# --- Results ---


@dataclass(frozen=True, slots=True)
class TaskRunRejectionValue:
    """A task run that keeps its state."""

    task_run_id: str
    status: OrchestrationStatus | None
    reason: str
    error: MutationFailure | None

    @classmethod
    def from_rejection(cls, rejection: Rejection) -> "TaskRunRejectionValue":
        refusal = rejection.refusal
        error = refusal and MutationFailure(refusal.code, str(refusal), refusal.argument)
        return cls(rejection.run_id, rejection.status, rejection.reason, error)


@dataclass(frozen=True, slots=True)
class FlowRunRejectionValue:
    """A flow run that keeps its state."""

    flow_run_id: str
    status: OrchestrationStatus | None
    reason: str

    @classmethod
    def from_rejection(cls, rejection: Rejection) -> "FlowRunRejectionValue":
        return cls(rejection.run_id, rejection.status, rejection.reason)


@dataclass(frozen=True, slots=True)
class ChangedRuns:
    """The result of a bulk change."""

    matched: int
    changed: int
    rejected: int
    rejections: Sequence[TaskRunRejectionValue | FlowRunRejectionValue]
    has_more: bool
    end_cursor: str | None

    @classmethod
    def from_result(
        cls, mutation: str, result: BulkChangeResult, rejection: type[TaskRunRejectionValue | FlowRunRejectionValue]
    ) -> "ChangedRuns":
        return cls(
            result.matched,
            result.changed,
            result.rejected,
            [rejection.from_rejection(each) for each in result.rejections],
            result.has_more,
            None if result.last_id is None else encode_cursor([CURSOR_VERSION, mutation, result.last_id]),
        )


# --- Arguments ---


def _parse_change(mutation: str, verb: Any, filter: object, limit: int, after: str | None) -> BulkChange[Any]:
    return BulkChange(
        verb,
        parse_filter("filter", filter),
        validate_count("limit", limit, minimum=1, maximum=MAX_BATCH_SIZE),
        None if after is None else _parse_cursor("after", mutation, after),
    )


def _parse_cursor(path: str, mutation: str, cursor: str) -> str:
    """Return the id in a cursor. Raises BadInput for a cursor of another mutation, and for anything else."""
    match decode_cursor(cursor):
        case [1, str(of_mutation), str(id)] if of_mutation == mutation and _is_id(id):
            return id
        case [int(version), *_] if version != CURSOR_VERSION:
            raise BadInput(path, "is a cursor of another server version. Start again without it.")
        case _:
            raise BadInput(path, f"is not a cursor of {mutation}. Use the `endCursor` of its last result.")


def _is_id(id: str) -> bool:
    try:
        return canonical_id(id) == id
    except ValueError:
        return False


async def _change_task_runs(
    info: Info,
    mutation: str,
    verb: TaskRunVerb,
    filter: TaskRunFilter,
    limit: int,
    after: str | None,
    *,
    dry_run: bool,
) -> ChangedRuns:
    database, writes = info.context.database, info.context.writes
    change = _parse_change(mutation, verb, filter, limit, after)
    if dry_run:
        result = await database.read(partial(preview_change, change=change, capacity=writes.capacity))
    else:
        result = await database.write(in_own_transaction(writes.change_task_runs), change)
    return ChangedRuns.from_result(mutation, result, TaskRunRejectionValue)


# --- Fields ---


@strawberry.type
class BulkMutations:
    @strawberry.mutation(
        graphql_type=TaskRunsChangePayload | None,
        description=(
            "Cancel the task runs that match a filter and have not ended, oldest first, in one transaction. A run becomes "
            "CANCELLED; while a worker holds an acknowledged lease on it, CANCELLING. Repeat the request with `endCursor` "
            "while `hasMore` is true."
        ),
    )
    async def cancel_task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter, strawberry.argument(description=f"Filter for the task runs to cancel. {_ONE_CONDITION}")
        ],
        limit: LimitArgument = MAX_BATCH_SIZE,
        after: AfterArgument = None,
        dry_run: DryRunArgument = False,
        message: MessageArgument = None,
    ) -> ChangedRuns:
        return await _change_task_runs(
            info, "cancelTaskRuns", Cancellation(message), filter, limit, after, dry_run=dry_run
        )

    @strawberry.mutation(
        graphql_type=TaskRunsChangePayload | None,
        description=(
            "Retry the FAILED, CRASHED and CANCELLED background runs that match a filter, oldest first, in one transaction. "
            "A run becomes SCHEDULED with the `runCount` 0 and without `expiresAt`, as far as the rules and its queue "
            "accept it. Repeat the request with `endCursor` while `hasMore` is true."
        ),
    )
    async def retry_task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter, strawberry.argument(description=f"Filter for the task runs to retry. {_ONE_CONDITION}")
        ],
        limit: LimitArgument = MAX_BATCH_SIZE,
        after: AfterArgument = None,
        dry_run: DryRunArgument = False,
        delay_seconds: Annotated[
            float,
            strawberry.argument(
                description="Delay until the task runs are due, in seconds, 0 to 86,400. Defaults to 0."
            ),
        ] = 0,
        message: MessageArgument = None,
    ) -> ChangedRuns:
        delay = validate_seconds("delaySeconds", delay_seconds, minimum=0, maximum=MAX_LEASE_SECONDS)
        return await _change_task_runs(
            info, "retryTaskRuns", Retry(delay, message), filter, limit, after, dry_run=dry_run
        )

    @strawberry.mutation(
        graphql_type=TaskRunsChangePayload | None,
        description=(
            "Reschedule the SCHEDULED and PAUSED background runs that match a filter, oldest first, in one transaction. A "
            "run becomes SCHEDULED for `scheduledTime`, and a lease on it is LOST. Repeat the request with `endCursor` "
            "while `hasMore` is true."
        ),
    )
    async def reschedule_task_runs(
        self,
        info: Info,
        filter: Annotated[
            TaskRunFilter, strawberry.argument(description=f"Filter for the task runs to reschedule. {_ONE_CONDITION}")
        ],
        scheduled_time: Annotated[
            DateTime,
            strawberry.argument(
                description="Time at which the task runs are due. With a past time, they are due at once."
            ),
        ],
        limit: LimitArgument = MAX_BATCH_SIZE,
        after: AfterArgument = None,
        dry_run: DryRunArgument = False,
    ) -> ChangedRuns:
        return await _change_task_runs(
            info, "rescheduleTaskRuns", Rescheduling(scheduled_time), filter, limit, after, dry_run=dry_run
        )

    @strawberry.mutation(
        graphql_type=FlowRunsChangePayload | None,
        description=(
            "Cancel the flow runs that match a filter and have not ended, oldest first, in one transaction. SCHEDULED and "
            "PAUSED flow runs become CANCELLED, PENDING and RUNNING ones CANCELLING. Repeat the request with `endCursor` "
            "while `hasMore` is true."
        ),
    )
    async def cancel_flow_runs(
        self,
        info: Info,
        filter: Annotated[
            FlowRunFilter, strawberry.argument(description=f"Filter for the flow runs to cancel. {_ONE_CONDITION}")
        ],
        limit: LimitArgument = MAX_BATCH_SIZE,
        after: AfterArgument = None,
        dry_run: DryRunArgument = False,
        message: MessageArgument = None,
    ) -> ChangedRuns:
        database = info.context.database
        change = _parse_change("cancelFlowRuns", FlowRunCancellation(message), filter, limit, after)
        if dry_run:
            result = await database.read(partial(preview_cancellation, change=change))
        else:
            result = await database.write(in_own_transaction(cancel_flow_runs), change)
        return ChangedRuns.from_result("cancelFlowRuns", result, FlowRunRejectionValue)
