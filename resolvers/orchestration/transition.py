"""Types of orchestration: transitions, verdicts and rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from db.enums import TERMINAL, StateType
from db.records import JsonText, RunRecord, StateDetails, StateRecord

ANY_STATE: frozenset[StateType | None] = frozenset({None, *StateType})
"""All state types, and None for a run that has no state yet."""

TERMINAL_STATES: frozenset[StateType | None] = frozenset(TERMINAL)


class OrchestrationStatus(StrEnum):
    """Result of proposing a state."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    ABORT = "ABORT"
    WAIT = "WAIT"


@dataclass(frozen=True, slots=True)
class ProposedState:
    """A state that a client proposes, or that a rule sets instead."""

    type: StateType
    name: str
    message: str | None = None
    data: JsonText | None = None
    details: StateDetails = field(default_factory=StateDetails)


@dataclass(frozen=True, slots=True)
class FlowRunFacts:
    """Facts about the flow run of a task run."""

    state_type: StateType | None
    run_count: int
    pause_timeout_at: str | None = None
    pause_reschedule: bool = False


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """A concurrency limit on one of a task run's tags."""

    id: str
    tag: str
    limit: int
    used_by_others: int
    """Number of slots that other runs hold."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A proposed state and all facts that rules use. The facts are loaded before, because rules execute no reads."""

    run: RunRecord
    proposed: ProposedState
    now: str
    """Timestamp of the decision, by the database's clock."""
    flow_run: FlowRunFacts | None = None
    """Flow run of a task run; None for background runs and for flow runs."""
    flow_run_run_count: int = 0
    """Run count of the flow run when this task run last became RUNNING."""
    run_count: int = 0
    """Run count of the run, including the changes of rules that were applied before."""
    limits: Sequence[LimitFacts] = ()
    """Concurrency limits on the tags of a task run, sorted by tag."""
    cached: StateRecord | None = None
    """Cached state for the cache key of the proposal; None when none exists or it has expired."""
    chance: float = 0.5
    """Random number, at least 0 and below 1, for random choices of rules."""
    new_pause_key: str | None = None
    """Key for a pause that is proposed without a key. Set in every transition of a flow run."""
    lease_id: str | None = None
    """Lease that the client names in the proposal; None from clients that are not workers."""
    held_lease_id: str | None = None
    """Current lease of the run; None when it has no lease or the lease has expired."""
    has_worker: bool = False
    """Whether a worker holds the run: its lease has been acknowledged, or the proposal names it."""
    unique_key_holder_id: str | None = None
    """Id of another run that has the same task key and unique key and has not ended; None when no other run does."""

    @property
    def current(self) -> StateRecord | None:
        """Current state of the run; None when it has no state yet."""
        return self.run.state

    @property
    def current_type(self) -> StateType | None:
        return self.run.state_type


@dataclass(frozen=True, slots=True)
class Effects:
    """Changes to apply together with the new state. None means no change."""

    run_count: int | None = None
    """New run count, set before the new state is counted."""
    flow_run_run_count: int | None = None
    """New value of the flow run's run count as recorded in a task run."""
    takes_slots: bool | None = None
    """Whether the run takes a slot of each limit on its tags."""
    caches_result: bool | None = None
    """Whether the state is stored in the result cache under its cache key."""
    pause_keys: Sequence[str] | None = None
    """New list of the pause keys that a flow run has used."""
    resuming: bool | None = None
    """New value of the `resuming` flag of a flow run."""

    def merge(self, later: "Effects") -> "Effects":
        """Combine these effects with those of a later rule, which take precedence."""
        changed = {each.name: value for each in fields(later) if (value := getattr(later, each.name)) is not None}
        return replace(self, **changed)


NO_EFFECTS = Effects()


@dataclass(frozen=True, slots=True)
class Amend:
    """Verdict: accept the proposal with changes. Its type stays. A later Reject, Abort or Wait discards the changes."""

    proposed: ProposedState | None = None
    """The changed proposal; None keeps it unchanged."""
    effects: Effects = NO_EFFECTS


@dataclass(frozen=True, slots=True)
class Reject:
    """Verdict: do not set the proposed state. The run enters `replacement` instead, or keeps its state when it is None."""

    reason: str
    replacement: ProposedState | None = None
    effects: Effects = NO_EFFECTS
    """Effects to apply together with the replacement."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Verdict: do not set the proposed state. The client must stop working on the run."""

    reason: str
    waits_for_tag: str | None = None
    """Tag whose limit has no slot for the run, which waits for one; None when the run does not wait for a slot."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Verdict: do not set the proposed state yet. The client may propose it again after the delay."""

    reason: str
    delay_seconds: float
    waits_for_tag: str | None = None
    """Tag whose limit has no free slot for the run, which waits for one; None when it does not wait for a slot."""


Verdict = Amend | Reject | Abort | Wait

Decide = Callable[[Transition], Verdict | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """An orchestration rule: the transitions that it governs, and its function. A verdict of None changes nothing."""

    name: str
    leaving: frozenset[StateType | None]
    entering: frozenset[StateType | None]
    decide: Decide

    def governs(self, leaving: StateType | None, entering: StateType) -> bool:
        return leaving in self.leaving and entering in self.entering


def rule(*, leaving: Any = ANY_STATE, entering: Any = ANY_STATE) -> Callable[[Decide], Rule]:
    """Turn a function into a rule for transitions from one of the `leaving` types to one of the `entering` types."""

    def make(decide: Decide) -> Rule:
        return Rule(decide.__name__, frozenset(leaving), frozenset(entering), decide)

    return make
