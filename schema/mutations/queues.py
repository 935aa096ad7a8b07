"""Mutations of task queues: pause and resume."""

from typing import Annotated

import strawberry

from db.errors import RowsLocked
from resolvers.errors import ClaimsInFlight
from resolvers.queue.pauses import pause_task_queues, resume_task_queues
from resolvers.queue.stats import TaskQueueStats, read_task_queues
from schema.context import Info
from schema.inputs.arguments import validate_key
from schema.results import ChangedQueue
from schema.types.payloads import TaskQueuePayload


@strawberry.type
class TaskQueueMutations:
    @strawberry.mutation(
        graphql_type=TaskQueuePayload | None,
        description=(
            "Pause the queue of a task key. When the mutation returns, no server delivers its runs until "
            "`resumeTaskQueue`. Workers keep the runs that they have, runs can be added, and runs expire. A paused queue "
            "does not change. Fails with `UNAVAILABLE`, and pauses nothing, when a claim does not end within 2 seconds, "
            "because its server may be suspended."
        ),
    )
    async def pause_task_queue(
        self,
        info: Info,
        task_key: Annotated[
            str,
            strawberry.argument(
                description="Task key of the queue, at most 1,000 bytes. A key without runs can be paused too."
            ),
        ],
    ) -> ChangedQueue:
        key = validate_key("taskKey", task_key)
        try:
            await info.context.database.write(pause_task_queues, key)
        except RowsLocked as error:
            raise ClaimsInFlight from error
        return ChangedQueue(await _read_queue(info, task_key))

    @strawberry.mutation(
        graphql_type=TaskQueuePayload | None,
        description=(
            "Resume the queue of a task key. All servers deliver its due runs at once. A queue that is not paused does not "
            "change."
        ),
    )
    async def resume_task_queue(
        self,
        info: Info,
        task_key: Annotated[str, strawberry.argument(description="Task key of the queue, at most 1,000 bytes.")],
    ) -> ChangedQueue:
        await info.context.database.write(resume_task_queues, validate_key("taskKey", task_key))
        return ChangedQueue(await _read_queue(info, task_key))


async def _read_queue(info: Info, task_key: str) -> TaskQueueStats:
    counts, capacity = info.context.dispatcher.subscriber_counts(), info.context.writes.capacity
    (queue,) = await info.context.database.read(
        lambda connection: read_task_queues(connection, [task_key], counts, capacity)
    )
    return queue
