"""GraphQL type of concurrency limits."""

import strawberry

from resolvers.concurrency_limits import LimitWithSlots
from schema.scalars import DateTime
from schema.types.node import Node


@strawberry.type(description="How many task runs with a tag may be RUNNING (or CANCELLING) at a time.")
class ConcurrencyLimit(Node):
    id: strawberry.ID = strawberry.field(description="Identifies the limit.")
    created: DateTime = strawberry.field(description="When it was created.")
    updated: DateTime = strawberry.field(description="When it was last changed.")
    tag: str = strawberry.field(description="The tag, exactly; unique among limits.")
    limit: int = strawberry.field(description="How many runs may hold a slot. With 0 or less, none may run.")
    active_slots: list[strawberry.ID] = strawberry.field(description="Ids of the task runs that hold a slot.")

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, LimitWithSlots)
