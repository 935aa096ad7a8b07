"""The queue, as answers show it."""

import strawberry

from schema.scalars import DateTime


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
