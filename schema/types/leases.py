"""GraphQL types of deliveries and leases."""

import strawberry

from schema.enums import LeaseStatus
from schema.scalars import DateTime
from schema.types.task_runs import TaskRun


@strawberry.type(description="A task run delivered to a worker, under a lease.")
class ScheduledTaskRun:
    lease_id: strawberry.ID = strawberry.field(
        description="The lease. Acknowledge it, and name it when you set the run's states; "
        "not after a delivery with `autoAcknowledge`, whose lease is over."
    )
    lease_expires_at: DateTime = strawberry.field(
        description="Until when you have to acknowledge it, before somebody else gets the run."
    )
    attempt: int = strawberry.field(description="How often this run has been delivered, this time included.")
    task_run: TaskRun = strawberry.field(description="The run.")


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
