"""GraphQL interface of all objects with an id."""

import strawberry


@strawberry.interface(description="Object with an id that is unique across all types.")
class Node:
    id: strawberry.ID = strawberry.field(
        description="Id of the object, unique across all types. A UUID, except for task queues."
    )
