"""GraphQL enums: enums of the resolvers and the database, with descriptions. GraphQL types import them from here."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from db.enums import DeploymentSort, FlowRunSort, FlowSort, Scope, StateType, TaskRunSort
from resolvers.delivery.leases import LeaseStatus
from resolvers.errors import ErrorCode
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.queue.wait_reasons import WaitReason

__all__ = [
    "DeploymentSort",
    "ErrorCode",
    "FlowRunSort",
    "FlowSort",
    "LeaseStatus",
    "OrchestrationStatus",
    "Scope",
    "StateType",
    "TaskRunSort",
    "WaitReason",
]

EnumType = TypeVar("EnumType", bound=type[Enum])


def _define_enum(
    enum_class: EnumType, description: str, values: Mapping[str, str], *, name: str | None = None
) -> EnumType:
    """Make `enum_class` a GraphQL enum with a description for each value. `name` defaults to that of the class."""
    decorated: Any = strawberry.enum(enum_class, name=name, description=description)
    definition: StrawberryEnumDefinition = decorated.__strawberry_definition__
    for value in definition.values:
        value.description = values[value.name]
    return decorated


_define_enum(
    StateType,
    "Type of a state. COMPLETED, FAILED, CANCELLED and CRASHED are terminal: the run has ended.",
    {
        "SCHEDULED": (
            "Scheduled to run, now or later. A background run in this state is queued for workers, unless it "
            "represents a subflow."
        ),
        "PENDING": "Claimed and about to run. Also the state of a run that is created without a state.",
        "RUNNING": "Being executed.",
        "COMPLETED": "Finished successfully.",
        "FAILED": "Finished with an error.",
        "CANCELLED": "Cancelled before it finished.",
        "CRASHED": "Terminated by an infrastructure failure: the worker process or machine was lost.",
        "PAUSED": "Paused until a client resumes it by setting another state.",
        "CANCELLING": (
            "Being cancelled. Its worker must stop it and then set CANCELLED. A background run that no worker has "
            "acknowledged becomes CANCELLED instead."
        ),
    },
)
_define_enum(
    ErrorCode,
    "Code of an error: `extensions.code` of a GraphQL error, or `MutationError.code` of one item of a mutation.",
    {
        "BAD_USER_INPUT": "The request or one of its arguments is invalid.",
        "NOT_FOUND": "An argument names an object that does not exist.",
        "CONFLICT": "The request contradicts the stored data or the orchestration rules.",
        "QUEUE_FULL": "The queue of a task key has reached its limit, and nothing was written. Retry later.",
        "QUERY_TOO_COMPLEX": "The document or operation exceeds a limit.",
        "RESPONSE_TOO_LARGE": "The response exceeds its size limit. Request fewer items, or fewer fields of each.",
        "PERSISTED_QUERY_NOT_SUPPORTED": "The server has no document with this hash. Send the document instead.",
        "UNAUTHENTICATED": "The token is missing or invalid, has expired or was revoked.",
        "FORBIDDEN": "The token has no scope that the field accepts, or the server does not execute the request.",
        "TOO_MANY_WRONG_TOKENS": "The client's address has sent too many invalid tokens. Retry later.",
        "UNAVAILABLE": (
            "The server or its database is temporarily unable to execute the request. A mutation may have been "
            "committed. Retry the request."
        ),
        "INTERNAL": "Internal error of the server, which logged it with the id in `extensions.id`.",
    },
)
_define_enum(
    OrchestrationStatus,
    "Result of proposing a state.",
    {
        "ACCEPT": (
            "The proposed state was set, or was set before with the same `transitionId`. Rules may have changed "
            "its name, data or details."
        ),
        "REJECT": (
            "The proposed state was not set. The run entered another state if `stateCreated` is true, and otherwise "
            "kept its state."
        ),
        "ABORT": "No state was set. The client must stop working on the run.",
        "WAIT": "No state was set. The client may propose the state again after `delaySeconds`.",
    },
)
_define_enum(
    LeaseStatus,
    "Status of a lease.",
    {
        "HELD": "The client held the lease, and the operation succeeded.",
        "LOST": (
            "The lease has expired, was released, has ended or does not exist. The client must stop working on "
            "the run and must not report a state."
        ),
    },
)

_define_enum(
    WaitReason,
    "Why a queued run is not delivered yet. Of several reasons, the first one in this order applies.",
    {
        "QUEUE_PAUSED": "The queue is paused. `resumeTaskQueue` ends that.",
        "RETRY_DELAY": "The run is on the retry side of the queue and not due: see `availableAt`.",
        "NOT_DUE": "The run is on the scheduled side of the queue and not due: see `availableAt`.",
        "NO_SLOT": "The concurrency limit on the tag `waitsForTag` has no free slot.",
        "NO_WORKER": (
            "The run is due, and no worker for its task key is known: no server has an open subscription or a waiting "
            "claim, or has served a claim in the last 60 seconds. Servers learn of the workers of others within 5 seconds "
            "(or `RUNYARD_HEARTBEAT_SECONDS`)."
        ),
        "IN_QUEUE": "The run is due and will be delivered when a worker for its task key has credit and it is next.",
    },
)

_SORT_DESCRIPTIONS = {
    "ID_DESC": "By `id`, descending: newest first.",
    "EXPECTED_START_TIME_ASC": "By expected start time, ascending.",
    "EXPECTED_START_TIME_DESC": "By expected start time, descending.",
    "NAME_ASC": "By name, ascending, in the order of Unicode code points: `Z` before `a`.",
    "NAME_DESC": "By name, descending, in the order of Unicode code points: `a` before `Z`.",
    "NEXT_SCHEDULED_START_TIME_ASC": "By scheduled time, ascending. Runs that are not SCHEDULED come first.",
    "END_TIME_ASC": "By end time, ascending. Runs without an end time come first.",
    "END_TIME_DESC": "By end time, descending. Runs without an end time come last.",
    "START_TIME_ASC": "By start time, ascending. Runs that have not started come first.",
    "START_TIME_DESC": "By start time, descending. Runs that have not started come last.",
    "CREATED_ASC": "By creation time, ascending.",
    "CREATED_DESC": "By creation time, descending.",
}
_define_enum(
    TaskRunSort,
    "Sort order for task runs. Ties are broken by `id`, in the same direction.",
    _SORT_DESCRIPTIONS,
)
_define_enum(
    FlowRunSort,
    "Sort order for flow runs. Ties are broken by `id`, in the same direction.",
    _SORT_DESCRIPTIONS,
)
_define_enum(
    FlowSort,
    "Sort order for flows. Ties are broken by `id`, in the same direction.",
    _SORT_DESCRIPTIONS,
)
_define_enum(
    DeploymentSort,
    "Sort order for deployments. Ties are broken by `id`, in the same direction.",
    _SORT_DESCRIPTIONS,
)
_define_enum(
    Scope,
    "Scope of an API token: the root fields that a client may use.",
    {
        "READ": "All queries, `taskRunStateChanges` and the metrics.",
        "WRITE": "Everything that READ allows, and creating, updating, deleting and setting states.",
        "WORK": "What workers do: receive task runs, hold their leases, and set states under a lease.",
    },
    name="TokenScope",
)
