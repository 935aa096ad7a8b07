"""GraphQL types of states."""

import strawberry

from schema.enums import StateType
from schema.scalars import JSON, DateTime


@strawberry.type(description="What a state carries beside its type and name. What was never set is null.")
class StateDetails:
    flow_run_id: strawberry.ID | None = strawberry.field(description="The flow run that the state belongs to.")
    task_run_id: strawberry.ID | None = strawberry.field(
        description="The task run that the state belongs to; for a subflow's state, its parent task run."
    )
    child_flow_run_id: strawberry.ID | None = strawberry.field(
        description="The subflow whose state this task run's state is a copy of."
    )
    scheduled_time: DateTime | None = strawberry.field(description="When the run is to start.")
    cache_key: str | None = strawberry.field(
        description="On RUNNING: the result to look for. On COMPLETED: what to keep the result under."
    )
    cache_expiration: DateTime | None = strawberry.field(
        description="Until when the result may be reused; null is for ever."
    )
    refresh_cache: bool | None = strawberry.field(description="True: run even if a cached result is there.")
    transition_id: strawberry.ID | None = strawberry.field(
        description="The caller's name for this change of state. A change is made once, however often it is sent."
    )
    pause_timeout: DateTime | None = strawberry.field(description="When a pause turns into a failure.")
    pause_reschedule: bool = strawberry.field(
        description="Whether the process ends during the pause and is started again."
    )
    pause_key: str | None = strawberry.field(description="The name of a pause, which is taken once.")
    run_input_keyset: JSON | None = strawberry.field(description="Where the input that the pause waits for is kept.")
    retriable: bool | None = strawberry.field(description="False: do not retry this failure.")
    untrackable_result: bool = strawberry.field(description="Whether the result can not be told from others.")
    task_parameters_id: strawberry.ID | None = strawberry.field(description="Where the task's parameters are kept.")


@strawberry.type(description="A state that a run is or was in. It is never changed; a run gets a new one.")
class State:
    id: strawberry.ID = strawberry.field(description="Identifies the state.")
    type: StateType = strawberry.field(description="What kind of state it is.")
    name: str = strawberry.field(
        description="What it is called: the type's own name (`Running`), or a finer one (`AwaitingRetry`, `Cached`)."
    )
    timestamp: DateTime = strawberry.field(description="When the run took it, by the server's clock.")
    message: str | None = strawberry.field(description="What its reporter had to say.")
    data: JSON | None = strawberry.field(description="The result or whatever else its reporter attached.")
    details: StateDetails = strawberry.field(description="What it carries beside its type and name.")
