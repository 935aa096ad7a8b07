"""Verbs of bulk changes: which runs they apply to, and what they propose. Pure; the rules decide what is proposed."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar, Protocol

from db.enums import TERMINAL, StateType
from db.records import FlowRunRecord, StateDetails, TaskRunRecord
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.transition import ProposedState

NOT_ENDED = frozenset(StateType) - TERMINAL

ALREADY_CANCELLING = "The task run is CANCELLING already. Its worker has been asked to stop."
IN_FLOW_RUN = "The task run belongs to a flow run, whose process starts it. It cannot be queued for workers."
REPRESENTS_SUBFLOW = "The task run represents a subflow, which sets its state. It cannot be queued for workers."


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """A verb does not change a run that it has examined, and proposes nothing."""

    reason: str


class TaskRunVerb(Protocol):
    """A bulk change of task runs."""

    states: ClassVar[Set[StateType]]
    """Types of the states that the verb applies to. Runs in other states are not examined."""
    clears_expiry: ClassVar[bool]
    """Whether changed runs no longer expire."""

    def propose(self, run: TaskRunRecord, now: str, *, has_worker: bool) -> ProposedState | NotApplicable:
        """Return the state to propose for a run. `has_worker`: whether a worker has acknowledged its lease."""
        ...


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Cancels task runs that have not ended, and asks workers to stop those that they have acknowledged."""

    message: str | None = None

    states: ClassVar[Set[StateType]] = NOT_ENDED
    clears_expiry: ClassVar[bool] = False

    def propose(self, run: TaskRunRecord, now: str, *, has_worker: bool) -> ProposedState | NotApplicable:
        """Propose CANCELLING for a run that a worker holds, and CANCELLED for any other run."""
        if has_worker and run.state_type is StateType.CANCELLING:
            return NotApplicable(ALREADY_CANCELLING)
        return _cancelled(StateType.CANCELLING if has_worker else StateType.CANCELLED, self.message)


@dataclass(frozen=True, slots=True)
class Retry:
    """Queues background runs that have failed or were cancelled again, due after `delay_seconds`."""

    delay_seconds: float = 0.0
    message: str | None = None

    states: ClassVar[Set[StateType]] = frozenset({StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})
    clears_expiry: ClassVar[bool] = True

    def propose(self, run: TaskRunRecord, now: str, *, has_worker: bool) -> ProposedState | NotApplicable:
        """Propose SCHEDULED for a background run."""
        return _propose_scheduled(run, seconds_after(now, self.delay_seconds), self.message)


@dataclass(frozen=True, slots=True)
class Rescheduling:
    """Moves background runs that have not started to another time. Their leases end."""

    scheduled_time: str

    states: ClassVar[Set[StateType]] = frozenset({StateType.SCHEDULED, StateType.PAUSED})
    clears_expiry: ClassVar[bool] = False

    def propose(self, run: TaskRunRecord, now: str, *, has_worker: bool) -> ProposedState | NotApplicable:
        """Propose SCHEDULED for a background run."""
        return _propose_scheduled(run, self.scheduled_time, None)


@dataclass(frozen=True, slots=True)
class FlowRunCancellation:
    """Cancels flow runs that have not ended."""

    message: str | None = None

    states: ClassVar[Set[StateType]] = NOT_ENDED

    def propose(self, run: FlowRunRecord) -> ProposedState:
        """Propose CANCELLING; for a PAUSED flow run CANCELLED, because it has no process that would stop."""
        is_paused = run.state_type is StateType.PAUSED
        return _cancelled(StateType.CANCELLED if is_paused else StateType.CANCELLING, self.message)


def _cancelled(type: StateType, message: str | None) -> ProposedState:
    return ProposedState(type, type.default_name, message)


def _propose_scheduled(run: TaskRunRecord, scheduled_time: str, message: str | None) -> ProposedState | NotApplicable:
    if run.flow_run_id is not None:
        return NotApplicable(IN_FLOW_RUN)
    if run.state is not None and run.state.details.child_flow_run_id is not None:
        return NotApplicable(REPRESENTS_SUBFLOW)
    details = StateDetails(scheduled_time=scheduled_time)
    return ProposedState(StateType.SCHEDULED, StateType.SCHEDULED.default_name, message, details=details)
