"""GraphQL types of queues and queue entries."""

from typing import cast

import strawberry

from db.records import QueueEntryRecord
from resolvers.queue.stats import TaskQueueStats
from schema.context import Info
from schema.enums import WaitReason
from schema.scalars import DateTime
from schema.types.node import Node


@strawberry.type(
    description="Entry of a background run in the queue of its task key, waiting for a worker or leased to one."
)
class QueueEntry:
    task_key: str = strawberry.field(description="Task key of the queue.")
    available_at: DateTime = strawberry.field(
        description="Time from which the run can be delivered, unless it waits for a concurrency slot."
    )
    is_retry: bool = strawberry.field(
        description=(
            "Whether the run is on the retry side of the queue, which contains retries, released runs and "
            "redeliveries. The retry side is served first; after four of its runs in a row, a due run of the "
            "scheduled side is served."
        )
    )
    attempt: int = strawberry.field(description="Number of deliveries of the run since it entered the queue.")
    lease_expires_at: DateTime | None = strawberry.field(
        description="Time at which the lease expires. Null while the run waits for a worker."
    )
    worker_name: str | None = strawberry.field(
        description=(
            "Name of the worker that holds the lease. Null while the run waits for a worker, or when the worker "
            "gave no name."
        )
    )
    waits_for_tag: str | None = strawberry.field(
        description=(
            "Tag of the concurrency limit whose slot the run waits for, in the queue or under a lease whose worker has "
            "received WAIT. Null when it waits for none."
        )
    )

    @strawberry.field(
        graphql_type=WaitReason | None,
        description="Why the run is not delivered yet: the first reason that applies. Null when it is leased.",
    )
    async def wait_reason(self, info: Info) -> WaitReason | None:
        return await info.context.loaders.wait_reasons.load(cast("QueueEntryRecord", self))


@strawberry.type(description="Queue statistics for a task key.")
class TaskQueue(Node):
    id: strawberry.ID = strawberry.field(
        description="Id of the queue: an opaque text, not a UUID. The queue of a task key always has the same id."
    )
    task_key: str = strawberry.field(description="Task key of the queue.")
    scheduled: int = strawberry.field(description="Number of due runs that wait on the scheduled side.")
    retry: int = strawberry.field(
        description=(
            "Number of due runs that wait on the retry side, which contains retries, released runs and redeliveries."
        )
    )
    delayed: int = strawberry.field(
        description="Number of waiting runs, on both sides, that are not due yet or wait for a concurrency slot."
    )
    leased: int = strawberry.field(description="Number of runs that are leased to workers, acknowledged or not.")
    oldest_wait_seconds: float | None = strawberry.field(
        description="Time for which the oldest due run has been due, in seconds. Null when no run is due."
    )
    subscribers: int = strawberry.field(
        description=(
            "Number of subscriptions and waiting claims for the task key on this server. Those on other servers "
            "are not included."
        )
    )
    max_scheduled: int = strawberry.field(
        description=(
            "Maximum number of waiting runs on the scheduled side, due or not. Beyond it, requests that add a run "
            "fail with `QUEUE_FULL`."
        )
    )
    max_retry: int = strawberry.field(
        description=(
            "Maximum number of waiting runs on the retry side, due or not. Beyond it, requests that add a run "
            "fail with `QUEUE_FULL`; failed, released and redelivered runs are always added."
        )
    )

    is_paused: bool = strawberry.field(
        description="Whether the queue is paused: no server delivers its runs until `resumeTaskQueue`."
    )
    paused_at: DateTime | None = strawberry.field(
        description="Time at which the queue was paused. Null when it is not paused."
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, TaskQueueStats)
