"""Joins query, mutation and subscription into the schema."""

from functools import cache

from schema.execution.engine import RunyardSchema
from schema.limits.options import DEFAULT, Rules
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


@cache
def build_schema(rules: Rules = DEFAULT) -> RunyardSchema:
    """The schema under these rules, built at its first use."""
    return RunyardSchema(Query, Mutation, Subscription, SCALARS, rules)


def print_schema() -> str:
    """The contract, as it is kept in schema.graphql."""
    return build_schema().as_str() + "\n"
