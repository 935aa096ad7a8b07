"""GraphQL types of states."""

import strawberry

from db.records import StateRecord
from schema.enums import StateType
from schema.scalars import JSON, DateTime
from schema.types.node import Node


@strawberry.type(
    description=(
        "Details of a state besides its type and name. Details that were not set are null, or false for Boolean values."
    )
)
class StateDetails:
    flow_run_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the flow run that the state belongs to, directly or through its task run. Null for states of "
            "background runs."
        )
    )
    task_run_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the task run that the state belongs to. For a state of a subflow, the id of the task run that "
            "represents it; null for other flow runs."
        )
    )
    child_flow_run_id: strawberry.ID | None = strawberry.field(
        description=(
            "Id of the subflow that the task run represents. The server sets it when it copies a state of the "
            "subflow to the task run."
        )
    )
    scheduled_time: DateTime | None = strawberry.field(
        description="Time at which the run is scheduled to start. Always set for SCHEDULED states."
    )
    cache_key: str | None = strawberry.field(
        description=(
            "Key in the result cache. A proposal of RUNNING sets the result cached under this key instead, if one "
            "exists; COMPLETED stores its result under it. The cache is not used for flow runs, or with `force`."
        )
    )
    cache_expires_at: DateTime | None = strawberry.field(
        description="Time at which the result that a COMPLETED state stores under `cacheKey` expires. Null means never."
    )
    refresh_cache: bool | None = strawberry.field(
        description="Whether a proposal of RUNNING ignores a result cached under `cacheKey`. Null means false."
    )
    transition_id: strawberry.ID | None = strawberry.field(
        description=(
            "Idempotency key of the state change. Repeating a proposal for the run with this key sets no state "
            "and returns this one. Repeating PENDING or RUNNING under a lost lease returns ABORT instead."
        )
    )
    pause_timeout_at: DateTime | None = strawberry.field(
        description=(
            "Deadline for resuming a PAUSED flow run. Within 5 seconds after it, the flow run becomes FAILED; until "
            "then, a proposed state is rejected or replaced by FAILED, except with `force`. Null means no deadline."
        )
    )
    pause_reschedule: bool = strawberry.field(
        description="Whether the process of a PAUSED flow run exits and is started again to resume."
    )
    pause_key: str | None = strawberry.field(
        description=(
            "Key of the pause of a flow run, as sent by the client. Null when the client sent none; the generated "
            "key is in `FlowRun.pauseKeys`."
        )
    )
    run_input_keyset: JSON | None = strawberry.field(
        description="Location of the input that a paused run waits for. Cannot be set through this API."
    )
    retriable: bool | None = strawberry.field(
        description="Whether a FAILED task run is retried according to its retry policy. Null means true."
    )
    untrackable_result: bool = strawberry.field(
        description=(
            "Whether clients cannot trace the result back to this run, as for null or Boolean values. Stored for "
            "clients; the server does not use it."
        )
    )
    task_parameters_id: strawberry.ID | None = strawberry.field(
        description="Id of the task's parameters in the client's storage. Stored for clients; the server does not use it."
    )


@strawberry.type(description="State that a run has or had. States never change: a run enters a new state instead.")
class State(Node):
    id: strawberry.ID = strawberry.field(description="Id of the state.")
    type: StateType = strawberry.field(description="Type of the state.")
    name: str = strawberry.field(
        description=(
            "Name of the state: the name of its type, such as `Running`, or a more specific one, such as "
            "`AwaitingRetry` or `Cached`."
        )
    )
    timestamp: DateTime = strawberry.field(
        description="Time at which the run entered the state, by the clock of the database."
    )
    message: str | None = strawberry.field(
        description="Message for people, such as an error message. Null when none was given."
    )
    data: JSON | None = strawberry.field(
        description="Result of the run, or any other JSON value. Null when none was given."
    )
    details: StateDetails = strawberry.field(description="Details of the state, such as its scheduled time.")
    actor: str | None = strawberry.field(
        description=(
            "Name of the token whose request set the state, or its id if it has no name. A state that a claim sets "
            "with `start` has the token of the claim. Null when the server set the state, and without authentication."
        )
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, StateRecord)
