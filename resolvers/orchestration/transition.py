"""The words of orchestration: a transition, what a rule may say about it, and what a rule is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from db.enums import TERMINAL, StateType
from db.records import JsonText, RunRecord, StateDetails, StateRecord

ANY_STATE: frozenset[StateType | None] = frozenset({None, *StateType})
"""Every type of state, and none at all: a run that is being created."""

TERMINAL_STATES: frozenset[StateType | None] = frozenset(TERMINAL)


class OrchestrationStatus(StrEnum):
    """What came of a proposal."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    ABORT = "ABORT"
    WAIT = "WAIT"


@dataclass(frozen=True, slots=True)
class ProposedState:
    """A state that somebody wants a run to take."""

    type: StateType
    name: str
    message: str | None = None
    data: JsonText | None = None
    details: StateDetails = field(default_factory=StateDetails)


@dataclass(frozen=True, slots=True)
class FlowRunFacts:
    """What a task run's rules may ask about its flow run."""

    state_type: StateType | None
    run_count: int
    pause_timeout: str | None = None
    pause_reschedule: bool = False


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """A concurrency limit on one of a task run's tags."""

    id: str
    tag: str
    limit: int
    used_by_others: int
    """How many slots other runs hold."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A proposal and all the facts that a rule may ask about. Loaded beforehand; rules read nothing."""

    run: RunRecord
    proposed: ProposedState
    now: str
    """The instant of the decision, by the database's clock."""
    flow_run: FlowRunFacts | None = None
    """The flow run of a task run; None for one in the background, and for a flow run itself."""
    flow_run_run_count: int = 0
    """The flow run's count of runs when this task run last ran."""
    run_count: int = 0
    """The run's count of runs, as far as the rules asked so far have left it."""
    limits: Sequence[LimitFacts] = ()
    """The concurrency limits on a task run's tags, in the order of the tags."""
    cached: StateRecord | None = None
    """The state kept under the proposal's cache key, where one is and may be used."""
    chance: float = 0.5
    """A number drawn evenly from 0 to 1, for what is left to chance."""
    lease_id: str | None = None
    """The lease under which the proposal is made; None from those who need none."""
    held_lease_id: str | None = None
    """The lease that the run is under, if that has not run out."""

    @property
    def current(self) -> StateRecord | None:
        """The state that the run is in."""
        return self.run.state

    @property
    def current_type(self) -> StateType | None:
        return self.run.state_type


@dataclass(frozen=True, slots=True)
class Effects:
    """What is to happen beside the new state, if that is taken. None stands for nothing."""

    run_count: int | None = None
    """What the run's count of runs is set to before the new state is counted."""
    flow_run_run_count: int | None = None
    """What a task run remembers of its flow run's count."""
    takes_slots: bool | None = None
    """Whether the run takes a slot of each limit on its tags."""
    keeps_result: bool | None = None
    """Whether the state is kept under its cache key."""
    pause_keys: Sequence[str] | None = None
    """What a flow run's list of pauses becomes."""
    resuming: bool | None = None
    """What a flow run's mark of being resumed becomes."""

    def joined(self, later: "Effects") -> "Effects":
        """These, and then those of a later rule."""
        changed = {each.name: value for each in fields(later) if (value := getattr(later, each.name)) is not None}
        return replace(self, **changed)


NO_EFFECTS = Effects()


@dataclass(frozen=True, slots=True)
class Amend:
    """Let the proposal pass, changed. It keeps its type; the changes are dropped if a later rule does not let it pass."""

    proposed: ProposedState | None = None
    """The changed proposal; None leaves it."""
    effects: Effects = NO_EFFECTS


@dataclass(frozen=True, slots=True)
class Reject:
    """Not this state: another one instead, or none."""

    reason: str
    instead: ProposedState | None = None
    effects: Effects = NO_EFFECTS
    """What is to happen beside the substitute."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Not this state, and the caller should stop working on the run."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: ask again after the delay."""

    reason: str
    delay_seconds: float
    for_slot: bool = False
    """Whether what is waited for is a concurrency slot, which may come sooner."""


Verdict = Amend | Reject | Abort | Wait

Decide = Callable[[Transition], Verdict | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of orchestration: which transitions it governs, and what it says about one. None lets it pass as it is."""

    name: str
    leaving: frozenset[StateType | None]
    entering: frozenset[StateType | None]
    decide: Decide

    def governs(self, leaving: StateType | None, entering: StateType) -> bool:
        return leaving in self.leaving and entering in self.entering


def rule(*, leaving: Any = ANY_STATE, entering: Any = ANY_STATE) -> Callable[[Decide], Rule]:
    """Make a function from a transition to a verdict a rule for transitions from `leaving` to `entering`."""

    def make(decide: Decide) -> Rule:
        return Rule(decide.__name__, frozenset(leaving), frozenset(entering), decide)

    return make
