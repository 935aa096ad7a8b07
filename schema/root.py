"""The schema, composed of query, mutation and subscription."""

from functools import cache

from graphql import GraphQLSchema
from graphql.utilities.print_schema import print_schema_definition

from schema.execution.engine import RunyardSchema
from schema.limits.options import DEFAULT_OPTIONS, EngineOptions
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

DESCRIPTION = """\
Runyard is a server for task runs. It stores them, applies orchestration rules to every state change, and delivers \
scheduled runs to workers.

- `createTaskRun` creates a task run. SCHEDULED background runs are queued for workers.
- `scheduledTaskRuns` delivers due runs to a worker, each under a lease.
- `setTaskRunState` proposes a state for a task run. Workers use it to report RUNNING, COMPLETED and FAILED.
- `taskRuns` lists runs with filters, sort orders and cursors.

README.md of the project describes how to start a server and write a worker. docs/ has guides, and lists errors, \
limits and settings. GLOSSARY.md defines the terms."""
"""Description of the schema in Markdown."""


@cache
def build_schema(options: EngineOptions = DEFAULT_OPTIONS) -> RunyardSchema:
    """Return the schema with these options. It is built once for each set of options."""
    schema = RunyardSchema(Query, Mutation, Subscription, SCALARS, options)
    _core_schema(schema).description = DESCRIPTION
    return schema


def print_schema() -> str:
    """Return the schema in the schema definition language, as stored in schema.graphql."""
    schema = build_schema()
    # Strawberry does not print the description of a schema.
    return f"{print_schema_definition(_core_schema(schema))}\n\n{schema.as_str()}\n"


def _core_schema(schema: RunyardSchema) -> GraphQLSchema:
    return schema._schema  # pyright: ignore[reportPrivateUsage]
