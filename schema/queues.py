"""The queue, deliveries and leases, as answers show them."""

from typing import TYPE_CHECKING, Annotated

import strawberry

from resolvers.queue.leases import LeaseStatus
from schema.scalars import DateTime

if TYPE_CHECKING:
    from schema.task_runs import TaskRun


@strawberry.type(description="A background run's place in the queue of its task key, or the lease that it is under.")
class QueueEntry:
    task_key: str = strawberry.field(description="The key whose queue it is in.")
    available_at: DateTime = strawberry.field(description="From when on it may be delivered.")
    is_retry: bool = strawberry.field(
        description="Whether it is on the retry side, which goes out first: after a failure, or given back by a worker."
    )
    attempt: int = strawberry.field(description="How often it has been delivered.")
    lease_expires_at: DateTime | None = strawberry.field(
        description="Until when a worker has it; null while it waits for one."
    )
    worker_name: str | None = strawberry.field(description="What the worker that has it calls itself.")


@strawberry.type(description="A task run delivered to a worker, under a lease.")
class ScheduledTaskRun:
    lease_id: strawberry.ID = strawberry.field(
        description="The lease. Acknowledge it, and name it when you set the run's states."
    )
    lease_expires_at: DateTime = strawberry.field(
        description="Until when you have to acknowledge it, before somebody else gets the run."
    )
    attempt: int = strawberry.field(description="How often this run has been delivered, this time included.")
    task_run: Annotated["TaskRun", strawberry.lazy("schema.task_runs")] = strawberry.field(description="The run.")


@strawberry.type(description="How it stands with a lease.")
class LeaseResult:
    lease_id: strawberry.ID = strawberry.field(description="The lease, as you named it.")
    status: LeaseStatus = strawberry.field(description="Whether it is yours.")
    lease_expires_at: DateTime | None = strawberry.field(
        description="Until when it is yours now; null where it is LOST."
    )
    cancel_requested: bool = strawberry.field(
        description="Whether somebody has set the run to CANCELLING: stop it, then set CANCELLED."
    )
