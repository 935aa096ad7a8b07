"""GraphQL type of workers."""

import strawberry

from schema.scalars import DateTime


@strawberry.type(
    description=(
        "Worker: all subscriptions, claims and leases with one worker name. Those without a name are one worker, whose "
        "`name` is null."
    )
)
class Worker:
    id: strawberry.ID = strawberry.field(
        description="Id of the worker: an opaque text, not a UUID. Workers with the same name have the same id."
    )
    name: str | None = strawberry.field(
        description="Name of the worker, as in `workerName`. Null for the workers that gave none."
    )
    task_keys: list[str] = strawberry.field(
        description="Task keys of its subscriptions, claims and leases, sorted. With the argument `taskKeys`, only these."
    )
    lease_count: int = strawberry.field(
        description="Number of leases that the worker holds, acknowledged or not, on all servers."
    )
    oldest_lease_expires_at: DateTime | None = strawberry.field(
        description="Time at which the first of its leases expires. Null when the worker holds none."
    )
    is_connected: bool = strawberry.field(
        description=(
            "Whether the worker has an open subscription or a waiting claim, or has claimed runs in the last 60 seconds, on "
            "any server. Other servers report their workers every 5 seconds (or their `RUNYARD_HEARTBEAT_SECONDS`)."
        )
    )
    server_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the server that the worker is connected to: a UUID that each server chooses when it starts. Null when it "
            "is not connected, or to several servers."
        )
    )
