"""Joins query, mutation and subscription into the schema."""

from strawberry.schema.config import StrawberryConfig

from schema import enums  # noqa: F401 - makes the enums that the types below use
from schema.execution import RunyardSchema
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


def build_schema() -> RunyardSchema:
    """The schema. Building it takes a moment: do it once."""
    return RunyardSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
    )


def print_schema() -> str:
    """The contract, as it is kept in schema.graphql."""
    return build_schema().as_str() + "\n"
