"""GraphQL types of the results of bulk changes."""

import strawberry

from schema.enums import OrchestrationStatus
from schema.types.payloads import MutationError

_STATUS = "Decision of the orchestration rules. Null when they were not applied."
_REASON = "Reason for which the run keeps its state."
_MATCHED = "Number of matching runs that the request examined, at most `limit`."
_CHANGED = (
    "Number of runs that entered another state, also when the rules set another one instead. With `dryRun`, the number "
    "that would."
)
_REJECTED = "Number of runs that keep their state, one for each item of `rejections`."
_HAS_MORE = "Whether more runs match after `endCursor`. Repeat the request with it to change them."
_END_CURSOR = "Cursor of the last run that the request examined. Null when it examined none."


@strawberry.type(description="Task run that a bulk change examined and did not change.")
class TaskRunRejection:
    task_run_id: strawberry.ID = strawberry.field(description="Id of the task run.")
    status: OrchestrationStatus | None = strawberry.field(description=_STATUS)
    reason: str = strawberry.field(description=_REASON)
    error: MutationError | None = strawberry.field(
        description="Error of the task run, with the code `QUEUE_FULL`. Null when another reason applies."
    )


@strawberry.type(description="Result of changing the task runs that match a filter.")
class TaskRunsChangePayload:
    matched: int = strawberry.field(description=_MATCHED)
    changed: int = strawberry.field(description=_CHANGED)
    rejected: int = strawberry.field(description=_REJECTED)
    rejections: list[TaskRunRejection] = strawberry.field(
        description="Task runs that keep their state, in the order of their ids."
    )
    has_more: bool = strawberry.field(description=_HAS_MORE)
    end_cursor: str | None = strawberry.field(description=_END_CURSOR)


@strawberry.type(description="Flow run that a bulk change examined and did not change.")
class FlowRunRejection:
    flow_run_id: strawberry.ID = strawberry.field(description="Id of the flow run.")
    status: OrchestrationStatus | None = strawberry.field(description=_STATUS)
    reason: str = strawberry.field(description=_REASON)


@strawberry.type(description="Result of changing the flow runs that match a filter.")
class FlowRunsChangePayload:
    matched: int = strawberry.field(description=_MATCHED)
    changed: int = strawberry.field(description=_CHANGED)
    rejected: int = strawberry.field(description=_REJECTED)
    rejections: list[FlowRunRejection] = strawberry.field(
        description="Flow runs that keep their state, in the order of their ids."
    )
    has_more: bool = strawberry.field(description=_HAS_MORE)
    end_cursor: str | None = strawberry.field(description=_END_CURSOR)
