"""GraphQL types of task runs and pages of them."""

from typing import cast

import strawberry

from db.records import FlowRunRecord, QueueEntryRecord, StateRecord, TaskRunRecord
from schema.context import Info
from schema.enums import StateType
from schema.reads.pages import ListConnection
from schema.scalars import JSON, DateTime
from schema.types.flow_runs import FlowRun
from schema.types.node import Node
from schema.types.queues import QueueEntry
from schema.types.states import State


@strawberry.type(description="How often, and after how long, a failed task run is tried again.")
class TaskRunPolicy:
    retries: int | None = strawberry.field(
        description="How many times it is tried again after a failure; null or a negative number is never."
    )
    retry_delay_seconds: list[float] | None = strawberry.field(
        description="One delay for every retry, or one for each; the last one serves for the rest. Null is no delay."
    )
    retry_jitter_factor: float | None = strawberry.field(
        description="How far a delay may be drawn out by chance: up to delay × (1 + factor). Null is not at all."
    )


@strawberry.type(description="One unit of work: of a flow run, or by itself in the background.")
class TaskRun(Node):
    id: strawberry.ID = strawberry.field(description="Identifies the task run. Later runs have greater ids.")
    created: DateTime = strawberry.field(description="When it was created.")
    updated: DateTime = strawberry.field(description="When anything about it last changed.")
    name: str = strawberry.field(description="Its name, made up where none was given; not unique.")
    task_key: str = strawberry.field(description="Which task it is a run of. Background runs are queued by this key.")
    dynamic_key: str = strawberry.field(
        description="Tells the runs of one task apart, within one flow run or background."
    )
    task_version: str | None = strawberry.field(description="The task's version, as the creator told it.")
    cache_key: str | None = strawberry.field(description="For your information; caching goes by the key in the state.")
    cache_expiration: DateTime | None = strawberry.field(description="For your information, as `cacheKey`.")
    empirical_policy: TaskRunPolicy = strawberry.field(description="How it is retried.")
    tags: list[str] = strawberry.field(description="In the order in which they were given.")
    task_inputs: JSON = strawberry.field(description="Where each parameter of the task comes from.")
    parameters: JSON | None = strawberry.field(
        description="What the worker is to run the task with; handed over with every delivery."
    )
    flow_run_id: strawberry.ID | None = strawberry.field(description="Its flow run; null for a background run.")
    state_id: strawberry.ID | None = strawberry.field(description="The current state.")
    state_type: StateType | None = strawberry.field(description="The current state's type.")
    state_name: str | None = strawberry.field(description="The current state's name.")
    state: State | None = strawberry.field(description="The current state.")
    run_count: int = strawberry.field(
        description="How often it has entered RUNNING since it was created or last started over after its end."
    )
    flow_run_run_count: int = strawberry.field(description="Its flow run's run count when it last entered RUNNING.")
    expected_start_time: DateTime | None = strawberry.field(
        description="When it was first meant to start; later states do not move it."
    )
    next_scheduled_start_time: DateTime | None = strawberry.field(description="When it is due, while it is SCHEDULED.")
    start_time: DateTime | None = strawberry.field(description="When it first entered RUNNING.")
    end_time: DateTime | None = strawberry.field(
        description="When it ended; null while it has not, and for a run that never started."
    )
    total_run_time_seconds: float = strawberry.field(description="Time spent in RUNNING states that are over.")
    trace_parent: str | None = strawberry.field(
        description="The `traceparent` of W3C's Trace Context under which it was created: go on with this trace where "
        "you carry it out. Null where its creation belonged to none."
    )
    estimated_run_time_seconds: float = strawberry.field(
        description="The same, with the time in the present RUNNING state up to now."
    )
    estimated_start_time_delta_seconds: float = strawberry.field(
        description="How late it started, or how late it is while it has not started; never negative."
    )

    @strawberry.field(description="Its flow run; null for a background run.", graphql_type=FlowRun | None)
    async def flow_run(self, info: Info) -> FlowRunRecord | None:
        if self.flow_run_id is None:
            return None
        return await info.context.loaders.flow_runs.load(self.flow_run_id)

    @strawberry.field(
        description="The flow run that this task run stands for, where it is a subflow's parent.",
        graphql_type=FlowRun | None,
    )
    async def child_flow_run(self, info: Info) -> FlowRunRecord | None:
        return await info.context.loaders.child_flow_runs.load(self.id)

    @strawberry.field(description="Every state that it has had, oldest first.", graphql_type=list[State])
    async def states(self, info: Info) -> list[StateRecord]:
        return await info.context.loaders.task_run_histories.load(self.id)

    @strawberry.field(
        description="Where it waits for a worker, or under whose lease it is; null where neither.",
        graphql_type=QueueEntry | None,
    )
    async def queue_entry(self, info: Info) -> QueueEntryRecord | None:
        prefetched = cast("TaskRunRecord", self).loaded_queue_entry
        if prefetched is not None:
            return prefetched[0] if prefetched else None
        return await info.context.loaders.queue_entries.load(self.id)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, TaskRunRecord)


@strawberry.type(description="A page of a list of task runs.")
class TaskRunConnection(ListConnection[TaskRun]):
    pass
