"""Values of results: what the fields of the types in `schema.types.payloads`, and of `Viewer`, are read from.

Payloads whose value comes from a resolver as it is have none here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from db.enums import Scope
from db.records import TaskRunRecord
from resolvers.api_tokens import Caller
from resolvers.concurrency_limits import LimitWithSlots
from resolvers.delivery.claim import Delivery
from resolvers.delivery.leases import LeaseResult
from resolvers.errors import ErrorCode, Refusal
from resolvers.queue.stats import TaskQueueStats
from resolvers.task_runs import CreatedTaskRun
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MutationFailure:
    """The refusal of one item of a mutation."""

    code: ErrorCode
    message: str
    argument: str | None

    @classmethod
    def of(cls, refusal: Refusal, argument: str | None, path: str) -> "MutationFailure":
        """Build the failure of the input at `path`, one of whose fields is `argument`."""
        return cls(refusal.code, str(refusal), argument and f"{path}.{argument}")


@dataclass(frozen=True, slots=True)
class TaskRunCreation:
    """The result of one item of `createTaskRuns`."""

    task_run: TaskRunRecord | None
    created: bool
    error: MutationFailure | None = None

    @classmethod
    def from_result(cls, result: CreatedTaskRun | Exception, path: str) -> "TaskRunCreation":
        """Build the row for a result or a refusal of the input at `path`. Raises every other exception."""
        if isinstance(result, Refusal):
            return cls(None, created=False, error=MutationFailure.of(result, result.argument, path))
        if isinstance(result, Exception):
            raise result
        return cls(result.task_run, result.created)


@dataclass(frozen=True, slots=True)
class StateChangeResult:
    """The result of one item of `setTaskRunStates`, or its refusal."""

    task_run_id: str
    result: TaskRunTransitionResult | None
    error: MutationFailure | None

    @classmethod
    def from_result(
        cls, task_run_id: str, result: TaskRunTransitionResult | Exception, path: str
    ) -> "StateChangeResult":
        """Build the row for a result or a refusal of the input at `path`. Raises every other exception."""
        if isinstance(result, Refusal):
            # The input names a run by `taskRunId`, `setTaskRunState` by `id`.
            argument = "taskRunId" if result.argument == "id" else result.argument
            return cls(task_run_id, None, MutationFailure.of(result, argument, path))
        if isinstance(result, Exception):
            raise result
        return cls(task_run_id, result, None)

    @classmethod
    def from_results(
        cls, changes: Sequence[StateChange], results: Sequence[TaskRunTransitionResult | Exception], path: str
    ) -> "list[StateChangeResult]":
        """Build the rows for the results of these changes, the inputs of the list at `path`."""
        return [
            cls.from_result(change.run_id, result, f"{path}.{index}")
            for index, (change, result) in enumerate(zip(changes, results, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class BatchResults(Generic[Result]):
    """The results of several items, in the order of the items."""

    results: list[Result]


@dataclass(frozen=True, slots=True)
class UpdatedTaskRun:
    """A task run after a change."""

    task_run: TaskRunRecord


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """An object that was deleted."""

    deleted_id: str


@dataclass(frozen=True, slots=True)
class ClaimedTaskRuns:
    """Task runs that a client has claimed."""

    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True)
class LeaseResults:
    """The results for several leases, in the order of their ids."""

    leases: list[LeaseResult | Exception]


@dataclass(frozen=True, slots=True)
class ExchangeOutcome:
    """The results of an exchange, each list in the order of the items."""

    results: list[StateChangeResult]
    leases: list[LeaseResult]
    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True)
class ViewerResult:
    """The client that sent a request."""

    name: str | None
    scopes: list[Scope]
    expires_at: str | None

    @classmethod
    def of_caller(cls, caller: Caller | None) -> "ViewerResult | None":
        """Return the client; None when it needed no token."""
        return caller and cls(caller.name, [scope for scope in Scope if scope in caller.scopes], caller.expires_at)


@dataclass(frozen=True, slots=True)
class ChangedQueue:
    """A task queue after a change."""

    task_queue: TaskQueueStats


@dataclass(frozen=True, slots=True)
class ChangedLimit:
    """A concurrency limit after a change."""

    concurrency_limit: LimitWithSlots
