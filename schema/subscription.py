"""Fields of `Subscription`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from resolvers.delivery.claim import Delivery
from resolvers.errors import BadInput
from resolvers.state_changes import StateChangeEvent
from schema.context import Info
from schema.inputs.arguments import (
    MAX_LEASE_SECONDS,
    MAX_PREFETCH,
    START_DESCRIPTION,
    LeaseSecondsArgument,
    TaskKeysArgument,
    WorkerNameArgument,
    validate_count,
    validate_seconds,
    validate_task_keys,
)
from schema.inputs.filters import parse_filter
from schema.types.leases import ScheduledTaskRun
from schema.types.state_changes import (
    StateChangeCursorArgument,
    StateChangeFilterArgument,
    StateChangePayload,
    TaskRunStateChange,
    parse_state_change_cursor,
)


@strawberry.type(
    description=(
        "Subscriptions. Available over WebSocket (`graphql-transport-ws`) and Server-Sent Events (`graphql-sse`)."
    )
)
class Subscription:
    @strawberry.subscription(
        graphql_type=list[ScheduledTaskRun],
        description=(
            "Receive due background runs of these task keys, each under a lease. An event contains one or more "
            "runs; an empty event keeps the connection alive. When the subscription ends, its unacknowledged runs "
            "are requeued at once; after a lost connection, the first of them counts as delivered to a lost "
            "worker."
        ),
    )
    async def scheduled_task_runs(
        self,
        info: Info,
        task_keys: TaskKeysArgument,
        prefetch: Annotated[
            int,
            strawberry.argument(
                description=(
                    "Maximum number of unacknowledged runs, 1 to 1,000. Defaults to 1. With `start`, the maximum number "
                    "of delivered runs whose leases have not ended."
                )
            ),
        ] = 1,
        lease_seconds: LeaseSecondsArgument = 60,
        worker_name: WorkerNameArgument = None,
        auto_acknowledge: Annotated[
            bool,
            strawberry.argument(
                description=(
                    "Whether each run leaves the queue before it is sent, for at-most-once delivery without a lease. "
                    "Defaults to false. When true, do not send the `leaseId` when you set states; setting them then "
                    "requires a token with the scope `write` too."
                )
            ),
        ] = False,
        start: Annotated[
            bool, strawberry.argument(description=f"{START_DESCRIPTION} Cannot be combined with `autoAcknowledge`.")
        ] = False,
    ) -> AsyncGenerator[list[Delivery], None]:
        if start and auto_acknowledge:
            raise BadInput("start", "cannot be combined with `autoAcknowledge`.")
        deliveries = info.context.dispatcher.deliver(
            validate_task_keys("taskKeys", task_keys),
            prefetch=validate_count("prefetch", prefetch, minimum=1, maximum=MAX_PREFETCH),
            lease_seconds=validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS),
            worker_name=worker_name,
            auto_acknowledge=auto_acknowledge,
            starts=start,
            peer=info.context.peer,
        )
        async with aclosing(deliveries):
            async for event in deliveries:
                yield event

    @strawberry.subscription(
        graphql_type=TaskRunStateChange,
        description=(
            "Receive state changes of task runs after they are committed: one event for each change, those of one "
            "run in their order. A client that is more than 10,000 changes behind (or the server's "
            "`RUNYARD_FEED_BACKLOG`) skips to the latest ones, and the next event has `gap`. To wait for a run, "
            "subscribe first and then query it, because it may already have ended."
        ),
    )
    async def task_run_state_changes(
        self, info: Info, filter: StateChangeFilterArgument = None, after: StateChangeCursorArgument = None
    ) -> AsyncGenerator[StateChangePayload, None]:
        position = parse_state_change_cursor("after", after)
        return _payloads_of(await info.context.feed.follow(parse_filter("filter", filter), position))


async def _payloads_of(changes: AsyncGenerator[StateChangeEvent, None]) -> AsyncGenerator[StateChangePayload, None]:
    async with aclosing(changes):
        async for event in changes:
            yield StateChangePayload.from_event(event)
