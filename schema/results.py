"""Values of mutation payloads: what the fields of the types in `schema.types.payloads` are read from.

Payloads whose value comes from a resolver as it is have none here.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from db.records import TaskRunRecord
from resolvers.concurrency_limits import LimitWithSlots
from resolvers.delivery.claim import Delivery
from resolvers.delivery.leases import LeaseResult
from resolvers.errors import ErrorCode, Refusal
from resolvers.task_runs import CreatedTaskRun
from resolvers.transitions.set_states import TaskRunTransitionResult

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MutationFailure:
    """The refusal of one item of a mutation."""

    code: ErrorCode
    message: str
    argument: str | None


@dataclass(frozen=True, slots=True)
class TaskRunCreation:
    """The result of one item of `createTaskRuns`."""

    task_run: TaskRunRecord | None
    created: bool
    error: MutationFailure | None = None

    @classmethod
    def from_created(cls, result: CreatedTaskRun) -> "TaskRunCreation":
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
            return cls(task_run_id, None, MutationFailure(result.code, str(result), argument and f"{path}.{argument}"))
        if isinstance(result, Exception):
            raise result
        return cls(task_run_id, result, None)


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
class ChangedLimit:
    """A concurrency limit after a change."""

    concurrency_limit: LimitWithSlots
