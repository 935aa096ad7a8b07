"""GraphQL types of concurrency limits and the slots that task runs hold."""

import strawberry

from db.records import TaskRunRecord
from resolvers.concurrency_limits import LimitWithSlots
from schema.context import Info
from schema.scalars import DateTime
from schema.types.node import Node
from schema.types.task_runs import TaskRun


@strawberry.type(description="Slot of a concurrency limit, held by a task run.")
class ConcurrencySlot:
    task_run_id: strawberry.ID = strawberry.field(description="Id of the task run that holds the slot.")
    acquired_at: DateTime = strawberry.field(description="Time at which the task run took the slot.")

    @strawberry.field(
        description="Task run that holds the slot. Null when it was deleted while the request was executed.",
        graphql_type=TaskRun | None,
    )
    async def task_run(self, info: Info) -> TaskRunRecord | None:
        return await info.context.loaders.task_runs.load(self.task_run_id)


@strawberry.type(
    description=(
        "Limit on the number of task runs with a tag that are RUNNING at a time. A run takes a slot of each "
        "limit on its tags when it enters RUNNING, and keeps it while it is RUNNING or CANCELLING. Runs that "
        "enter RUNNING without the orchestration rules, for example with `force`, take no slot."
    )
)
class ConcurrencyLimit(Node):
    id: strawberry.ID = strawberry.field(description="Id of the limit.")
    created: DateTime = strawberry.field(name="createdAt", description="Time of creation.")
    updated: DateTime = strawberry.field(name="updatedAt", description="Time at which `limit` was last set.")
    tag: str = strawberry.field(
        description="Tag of the limited task runs, unique among limits. Tags are compared exactly, including their case."
    )
    limit: int = strawberry.field(
        description=(
            "Number of slots. At 0 or below, no run with the tag can enter RUNNING: proposing it returns ABORT "
            "for 0, and WAIT for a negative number."
        )
    )
    slots: list[ConcurrencySlot] = strawberry.field(
        description="Slots that task runs hold, in the order in which they were taken."
    )

    @strawberry.field(
        description=(
            "Number of queued task runs that wait for a slot of this limit, including those of workers whose last "
            "proposal of RUNNING returned WAIT, or ABORT for a limit of 0."
        )
    )
    async def waiting_count(self, info: Info) -> int:
        return await info.context.loaders.waiting_run_counts.load(self.tag)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, LimitWithSlots)
