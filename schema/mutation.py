"""The root type `Mutation`, composed of the mutations of each subject."""

import strawberry

from schema.mutations.bulk_changes import BulkMutations
from schema.mutations.concurrency_limits import ConcurrencyLimitMutations
from schema.mutations.deliveries import DeliveryMutations
from schema.mutations.flow_runs import FlowRunMutations
from schema.mutations.queues import TaskQueueMutations
from schema.mutations.task_runs import TaskRunMutations


@strawberry.type(
    description=(
        "Mutations. The result of a field is sent after its changes are committed to disk; a field that fails is null "
        "and has an error, and the others keep their results. Available over HTTP, WebSocket "
        "(`graphql-transport-ws`) and Server-Sent Events (`graphql-sse`)."
    )
)
class Mutation(
    TaskRunMutations,
    BulkMutations,
    DeliveryMutations,
    TaskQueueMutations,
    FlowRunMutations,
    ConcurrencyLimitMutations,
):
    """All mutations."""
