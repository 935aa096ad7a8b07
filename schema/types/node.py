"""GraphQL interface of all objects with an id."""

import strawberry


@strawberry.interface(description="Anything that has an id of its own.")
class Node:
    id: strawberry.ID = strawberry.field(description="Identifies the object among all others, of any type.")
