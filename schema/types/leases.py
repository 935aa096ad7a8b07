"""GraphQL types of deliveries and leases."""

import strawberry

from schema.enums import LeaseStatus
from schema.scalars import DateTime
from schema.types.task_runs import TaskRun


@strawberry.type(
    description=(
        "Task run delivered to a worker under a lease. When the worker is lost (an acknowledged lease "
        "expires), a RUNNING run is retried or becomes CRASHED (`WorkerLost`), and a SCHEDULED or PENDING run "
        "is redelivered: at once, then after 5, 30 and 120 seconds. After five lost workers in a row, a run "
        "that is SCHEDULED or PENDING becomes CRASHED (`Undeliverable`)."
    )
)
class ScheduledTaskRun:
    lease_id: strawberry.ID = strawberry.field(
        description=(
            "Id of the lease. Send it when you set a state of the run, and when you acknowledge, renew or release "
            "the lease. With `autoAcknowledge`, the lease has already ended: do not send it; setting states then "
            "requires a token with the scope `write` too."
        )
    )
    lease_expires_at: DateTime = strawberry.field(
        description=(
            "Deadline for acknowledging this delivery. After it, the task run is redelivered. Does not apply with "
            "`autoAcknowledge`."
        )
    )
    attempt: int = strawberry.field(
        description="Number of deliveries of this run since it entered the queue, including this one."
    )
    task_run: TaskRun = strawberry.field(description="Delivered task run.")


@strawberry.type(
    description=(
        "Result of acknowledging, renewing or releasing a lease, or of waiting for it. A lease that is unknown or no "
        "longer held is LOST, which is not an error."
    )
)
class LeaseResult:
    lease_id: strawberry.ID = strawberry.field(description="Id of the lease.")
    status: LeaseStatus = strawberry.field(
        description="Status of the lease: HELD if the caller held it and the operation succeeded, otherwise LOST."
    )
    lease_expires_at: DateTime | None = strawberry.field(
        description="Time at which the lease expires after the operation. Null when the lease is LOST or was released."
    )
    cancel_requested: bool = strawberry.field(
        description=(
            "Whether a client has requested cancellation of the run by setting CANCELLING. Stop the run, then set "
            "CANCELLED. Releasing the lease sets CANCELLED as well."
        )
    )
