"""GraphQL type of concurrency limits."""

import strawberry

from resolvers.concurrency_limits import LimitWithSlots
from schema.scalars import DateTime
from schema.types.node import Node


@strawberry.type(
    description=(
        "Limit on the number of task runs with a tag that are RUNNING at a time. A run takes a slot of each "
        "limit on its tags when it enters RUNNING, and keeps it while it is RUNNING or CANCELLING. Runs that "
        "enter RUNNING without the orchestration rules, for example with `force`, take no slot."
    )
)
class ConcurrencyLimit(Node):
    id: strawberry.ID = strawberry.field(description="Id of the limit.")
    created: DateTime = strawberry.field(description="Time of creation.")
    updated: DateTime = strawberry.field(description="Time at which `limit` was last set.")
    tag: str = strawberry.field(
        description="Tag of the limited task runs, unique among limits. Tags are compared exactly, including their case."
    )
    limit: int = strawberry.field(
        description=(
            "Number of slots. At 0 or below, no run with the tag can enter RUNNING: proposing it returns ABORT "
            "for 0, and WAIT for a negative number."
        )
    )
    active_slots: list[strawberry.ID] = strawberry.field(
        description="Ids of the task runs that hold a slot, in ascending order."
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, LimitWithSlots)
