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


@strawberry.type(description="Retry policy of a task run.")
class TaskRunPolicy:
    retries: int | None = strawberry.field(
        description=(
            "Maximum number of retries after failures and lost workers. Null, 0 or a negative number means no retries."
        )
    )
    retry_delay_seconds: list[float] | None = strawberry.field(
        description=(
            "Delays before retries in seconds: one for all retries, or one for each retry. The last delay applies "
            "to all further retries. Null means no delay."
        )
    )
    retry_jitter_factor: float | None = strawberry.field(
        description=(
            "Random variation of the delays: each delay is at most delay × (1 + factor), and can be shorter than "
            "configured. Null or 0 means no variation."
        )
    )


@strawberry.type(description="Progress of a task run, as its worker reported it last with `reportTaskRunProgress`.")
class TaskRunProgress:
    done: float = strawberry.field(
        description="Amount of work that is done, at least 0, in a unit that the worker chooses."
    )
    total: float | None = strawberry.field(
        description=(
            "Total amount of work, at least 0, in the same unit. An estimate: `done` may exceed it. Null when the worker "
            "does not know it."
        )
    )
    message: str | None = strawberry.field(
        description="Message for people, at most 1,000 characters. Null when the worker gave none."
    )
    updated_at: DateTime = strawberry.field(description="Time at which the server received the report.")


@strawberry.type(description="Execution of a task, in a flow run or as a background run.")
class TaskRun(Node):
    id: strawberry.ID = strawberry.field(
        description=(
            "Id of the task run. Ids are ordered by time of creation, as measured by the server that created the run."
        )
    )
    created: DateTime = strawberry.field(name="createdAt", description="Time of creation.")
    updated: DateTime = strawberry.field(name="updatedAt", description="Time of the last change.")
    name: str = strawberry.field(
        description="Name of the task run, not necessarily unique. Generated when none was given."
    )
    task_key: str = strawberry.field(
        description="Key of the task that is executed. Background runs are queued by this key."
    )
    dynamic_key: str = strawberry.field(
        description="Key that distinguishes runs of one task key in a flow run, or among background runs."
    )
    task_version: str | None = strawberry.field(
        description="Version of the task, as given on creation. Null when none was given."
    )
    cache_key: str | None = strawberry.field(
        description=(
            "Cache key for information. The result cache uses `StateDetails.cacheKey` instead. Null when none was "
            "given."
        )
    )
    cache_expiration: DateTime | None = strawberry.field(
        name="cacheExpiresAt",
        description=(
            "Time of cache expiration, for information. The result cache uses `StateDetails.cacheExpiresAt` "
            "instead. Null when none was given."
        ),
    )
    retry_policy: TaskRunPolicy = strawberry.field(description="Retry policy of the task run.")
    tags: list[str] = strawberry.field(description="Tags of the task run, in the order in which they were given.")
    task_inputs: JSON = strawberry.field(
        description=(
            "Sources of the task's parameters: a JSON object that maps the name of each parameter to a list of "
            "sources. Stored for clients; the server does not use it."
        )
    )
    parameters: JSON | None = strawberry.field(
        description="Values that the task is executed with, as any JSON value. Null when none were given."
    )
    priority: int = strawberry.field(
        description=(
            "Priority in the queue of the task key, -10 to 10. Defaults to 0. Has no effect on a task run of a flow run."
        )
    )
    expires_at: DateTime | None = strawberry.field(
        description="Time at which the task run expires unless it has started. Null when it does not expire."
    )
    timeout_seconds: float | None = strawberry.field(
        description=(
            "Time for which the task run may be RUNNING under one lease, in seconds. Null for no limit. Has no effect on a "
            "task run of a flow run."
        )
    )
    unique_key: str | None = strawberry.field(
        description=(
            "Key that at most one run of the task key that has not ended has. Null when none was given. A run that has "
            "ended keeps the value and no longer holds the key."
        )
    )
    metadata: JSON | None = strawberry.field(
        description="Data for people and programs, as a JSON object of at most 64 KiB. Null when none is set."
    )
    progress: TaskRunProgress | None = strawberry.field(
        description=(
            "Progress that the worker reported last. Null when none was reported since the task run last entered RUNNING. "
            "Remains after the end. A report does not change `updatedAt`."
        )
    )
    flow_run_id: strawberry.ID | None = strawberry.field(description="Id of the flow run. Null for a background run.")
    state_id: strawberry.ID = strawberry.field(description="Id of the current state.")
    state_type: StateType = strawberry.field(description="Type of the current state.")
    state_name: str = strawberry.field(description="Name of the current state.")
    state: State = strawberry.field(description="Current state. A task run has one from its creation on.")
    run_count: int = strawberry.field(
        description=(
            "Number of times that the task run has entered RUNNING. Reset to 0 when a task run that has ended "
            "leaves its terminal state, except with `force`."
        )
    )
    flow_run_run_count: int = strawberry.field(
        description=(
            "`runCount` of the flow run when this task run last entered RUNNING under the orchestration rules. 0 "
            "for a background run, or when it has not."
        )
    )
    expected_start_time: DateTime | None = strawberry.field(
        description=(
            "Time at which the task run was expected to start: the scheduled time of its first state, or the time "
            "of that state if it was not SCHEDULED. Later states do not change it."
        )
    )
    next_scheduled_start_time: DateTime | None = strawberry.field(
        description="Scheduled time of the current state. Null unless the task run is SCHEDULED."
    )
    start_time: DateTime | None = strawberry.field(
        description="Time at which the task run first entered RUNNING. Null when it has not."
    )
    end_time: DateTime | None = strawberry.field(
        description=(
            "Time at which the task run ended. Null while it has not ended, and when it ended without entering RUNNING."
        )
    )
    total_run_time_seconds: float = strawberry.field(
        description="Time spent in past RUNNING states, in seconds. Does not include the current state."
    )
    trace_parent: str | None = strawberry.field(
        description=(
            "W3C Trace Context (`traceparent`) of the request that created the task run. Continue this trace when "
            "you execute the run. Null when the request belonged to no trace."
        )
    )
    estimated_run_time_seconds: float = strawberry.field(
        description=(
            "Time spent in RUNNING states, in seconds: `totalRunTimeSeconds` and, if the task run is RUNNING, the "
            "time in the current state up to now."
        )
    )
    estimated_start_time_delta_seconds: float = strawberry.field(
        description=(
            "Delay between the expected and the actual start, in seconds. For runs that have not started, the "
            "delay so far, or 0 if they have ended. Never negative."
        )
    )

    @strawberry.field(
        description="Flow run that the task run belongs to. Null for a background run.", graphql_type=FlowRun | None
    )
    async def flow_run(self, info: Info) -> FlowRunRecord | None:
        if self.flow_run_id is None:
            return None
        return await info.context.loaders.flow_runs.load(self.flow_run_id)

    @strawberry.field(
        description=(
            "Flow run that this task run represents as a subflow; of several, the latest. Null when it represents none."
        ),
        graphql_type=FlowRun | None,
    )
    async def child_flow_run(self, info: Info) -> FlowRunRecord | None:
        return await info.context.loaders.child_flow_runs.load(self.id)

    @strawberry.field(
        description="States that the task run has had, including the current one, oldest first.",
        graphql_type=list[State],
    )
    async def states(self, info: Info) -> list[StateRecord]:
        return await info.context.loaders.task_run_histories.load(self.id)

    @strawberry.field(
        description=(
            "Queue entry of the task run, waiting for a worker or leased to one. Null when the task run is not in "
            "the queue."
        ),
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


@strawberry.type(description="Page of a list of task runs.")
class TaskRunConnection(ListConnection[TaskRun]):
    pass


@strawberry.type(description="Result of waiting for the end of task runs.")
class EndedTaskRuns:
    ended: list[TaskRun] = strawberry.field(
        description=(
            "Task runs that have ended (COMPLETED, FAILED, CRASHED or CANCELLED), in the order of the ids. A run that "
            "waits for a retry has not ended."
        )
    )
    not_found: list[strawberry.ID] = strawberry.field(
        description="Ids that no task run has, in the order of the ids. The runs of some may have been deleted."
    )
    has_more: bool = strawberry.field(
        description=(
            "Whether more of the task runs have ended, which do not fit into the response. Repeat the query without the "
            "ids that `ended` and `notFound` contain."
        )
    )
