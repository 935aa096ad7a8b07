"""The schema, composed of query, mutation and subscription."""

from functools import cache

from schema.execution.engine import RunyardSchema
from schema.limits.options import DEFAULT_OPTIONS, EngineOptions
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


@cache
def build_schema(options: EngineOptions = DEFAULT_OPTIONS) -> RunyardSchema:
    """Return the schema with these options. It is built once for each set of options."""
    return RunyardSchema(Query, Mutation, Subscription, SCALARS, options)


def print_schema() -> str:
    """Return the schema in the schema definition language, as stored in schema.graphql."""
    return build_schema().as_str() + "\n"
