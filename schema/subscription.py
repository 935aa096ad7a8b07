"""Fields of `Subscription`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from resolvers.delivery.claim import Delivery
from schema.context import Info
from schema.inputs.arguments import (
    MAX_LEASE_SECONDS,
    MAX_PREFETCH,
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


@strawberry.type(description="What you can listen to, over graphql-transport-ws.")
class Subscription:
    @strawberry.subscription(
        graphql_type=list[ScheduledTaskRun],
        description="The MultiQueue: scheduled background runs of any of these keys, each leased to you, as they come "
        "due. An event carries one run or more; an empty event is a keep-alive. You have at most `prefetch` runs that "
        "you have not acknowledged; those go back to the queue at once when the subscription ends, however it ends. "
        "If it ends because your connection is lost, the first of them counts as what you were at: after the second time "
        "it waits 5 seconds, then 30, then 120, and after the fifth it is CRASHED, `Undeliverable`. "
        "A run may be delivered again after its lease is lost, so name the `leaseId` in all that you report.",
    )
    async def scheduled_task_runs(
        self,
        info: Info,
        task_keys: TaskKeysArgument,
        prefetch: Annotated[
            int, strawberry.argument(description="How many runs you may have unacknowledged at a time: 1 to 1,000.")
        ] = 1,
        lease_seconds: LeaseSecondsArgument = 60,
        worker_name: WorkerNameArgument = None,
        auto_acknowledge: Annotated[
            bool,
            strawberry.argument(
                description="Count a run as taken over once it is sent: at most once, and with no lease after that. "
                "Do not name the leaseId in your reports then."
            ),
        ] = False,
    ) -> AsyncGenerator[list[Delivery], None]:
        deliveries = info.context.dispatcher.deliver(
            validate_task_keys("taskKeys", task_keys),
            prefetch=validate_count("prefetch", prefetch, minimum=1, maximum=MAX_PREFETCH),
            lease_seconds=validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS),
            worker_name=worker_name,
            auto_acknowledge=auto_acknowledge,
            peer=info.context.peer,
        )
        async with aclosing(deliveries):
            async for event in deliveries:
                yield event

    @strawberry.subscription(
        graphql_type=TaskRunStateChange,
        description="A live feed of state changes of task runs, for dashboards and for whoever waits for a run. One event "
        "for each change, the changes of one run in their order, none twice. To go on after a break, hand over the last "
        "`cursor` that you have seen as `after`. Nothing is sent while nothing changes. You may be 10,000 changes behind, "
        "or as many as the server allows; further back, you are taken to the latest ones, and the next event has `gap`. "
        "Changes of runs that are deleted are no longer told. To wait for a run, subscribe first and then ask for it: it "
        "may have ended already.",
    )
    async def task_run_state_changes(
        self, info: Info, filter: StateChangeFilterArgument = None, after: StateChangeCursorArgument = None
    ) -> AsyncGenerator[StateChangePayload, None]:
        changes = info.context.feed.follow(parse_filter("filter", filter), parse_state_change_cursor("after", after))
        async with aclosing(changes):
            async for event in changes:
                yield StateChangePayload.from_event(event)
