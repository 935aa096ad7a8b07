"""Decides transitions by applying the rules of a policy in order. Has no side effects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from resolvers.orchestration.transition import (
    NO_EFFECTS,
    Abort,
    Amend,
    Effects,
    OrchestrationStatus,
    ProposedState,
    Reject,
    Rule,
    Transition,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Result of applying a policy to a transition."""

    status: OrchestrationStatus
    state: ProposedState | None
    """State that the run enters; None when the run keeps its current state."""
    reason: str | None = None
    delay_seconds: float | None = None
    effects: Effects = NO_EFFECTS
    """Effects to apply together with the state: on ACCEPT those of all rules, on REJECT those of the rejecting rule."""
    waits_for_tag: str | None = None
    """Tag whose limit has no free slot for the run, which waits for one. Only on WAIT and ABORT."""


def decide(policy: Sequence[Rule], transition: Transition) -> Decision:
    """Apply the rules that govern this transition, in their order, and return the decision.

    A Reject, Abort or Wait ends the evaluation: later rules are not applied. An Amend changes what later rules receive.
    """
    leaving, entering = transition.current_type, transition.proposed.type
    transition = replace(transition, run_count=transition.run.run_count)
    effects = NO_EFFECTS
    for each in policy:
        if not each.governs(leaving, entering):
            continue
        verdict = each.decide(transition)
        if verdict is None:
            continue
        if isinstance(verdict, Amend):
            effects = effects.merge(verdict.effects)
            transition = replace(
                transition,
                proposed=verdict.proposed or transition.proposed,
                run_count=transition.run_count if effects.run_count is None else effects.run_count,
            )
        elif isinstance(verdict, Reject):
            return Decision(OrchestrationStatus.REJECT, verdict.replacement, verdict.reason, effects=verdict.effects)
        elif isinstance(verdict, Abort):
            return Decision(OrchestrationStatus.ABORT, None, verdict.reason, waits_for_tag=verdict.waits_for_tag)
        else:
            status = OrchestrationStatus.WAIT
            return Decision(status, None, verdict.reason, verdict.delay_seconds, waits_for_tag=verdict.waits_for_tag)
    return Decision(OrchestrationStatus.ACCEPT, transition.proposed, effects=effects)
