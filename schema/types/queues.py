"""GraphQL types of queues and queue entries."""

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


@strawberry.type(description="How it stands with the queue of a task key.")
class TaskQueue:
    task_key: str = strawberry.field(description="The key.")
    scheduled: int = strawberry.field(description="How many runs of the scheduled side are due and wait for a worker.")
    retry: int = strawberry.field(
        description="How many runs of the retry side are due and wait: after a failure, or given back by a worker."
    )
    delayed: int = strawberry.field(description="How many runs wait, on either side, that are not due yet.")
    leased: int = strawberry.field(description="How many runs workers have, acknowledged or not.")
    oldest_wait_seconds: float | None = strawberry.field(
        description="For how long the run has been due that is due the longest; null where none is due."
    )
    subscribers: int = strawberry.field(
        description="How many subscriptions and waiting claims listen to the key at this server; others count their own."
    )
    max_scheduled: int = strawberry.field(
        description="How many runs may wait on the scheduled side, due or not, before creating more is `QUEUE_FULL`."
    )
    max_retry: int = strawberry.field(
        description="The same for what clients put on the retry side. What rules and lost workers put there always fits."
    )
