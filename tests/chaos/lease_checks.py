"""Checks of leases: who may change a run, for how long, and what the responses say about it."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.evidence import DATABASE, Absence, Attempt, Evidence, Run, State, Verdict
from tests.chaos.time_checks import CLOCK_SKEW_SECONDS

RELEASING_REQUESTS = {"RELEASE", "COMPLETED", "FAILED"}
"""Requests with which a worker ends its lease."""

BEGINNING = {"PENDING", "RUNNING"}
"""States that a worker may only repeat under a lease that it still holds: after them, it would execute the run."""

STEADY_RENEWAL = 0.35
"""Longest interval, in lease times, between the renewals of a worker that counts as renewing steadily.

Its renewals go to the servers in turn, and at least two of them fit into the time that is left of its lease.
"""


def responses_agree_with_the_history(evidence: Evidence) -> Iterator[str]:
    """Check that an accepted proposal is in the history, and that an aborted one is not, unless it was repeated.

    An ABORT to a proposal that was sent once wrote nothing. A repeated PENDING or RUNNING under a lost lease is ABORT,
    whatever its first attempt wrote: its lease can have expired by then, and the history shows afterwards that it did.
    """
    runs = {run.id: run for run in evidence.runs}
    written = {(run.id, state.transition) for run in evidence.runs for state in run.states if state.transition}
    leases = Leases(evidence)
    for each in evidence.verdicts:
        if each.transition is None:
            continue
        is_written = (each.run, each.transition) in written
        if each.status in ("ACCEPT", "REJECT") and not is_written:
            yield f"{each.run}: {each.kind} got {each.status} and is not in the history"
        if each.status == "WAIT" and is_written:
            yield f"{each.run}: {each.kind} got WAIT and is in the history"
        if each.status == "ABORT" and is_written:
            reason = _reason_against_abort(each, runs[each.run], leases)
            if reason is not None:
                yield f"{each.run}: {each.kind} got ABORT and is in the history, {reason}"


def _reason_against_abort(verdict: Verdict, run: Run, leases: "Leases") -> str | None:
    """Return why a transition that is in the history must not be aborted, or None if its lease was lost."""
    sent = [each for each in leases.attempts[verdict.lease] if each.transition == verdict.transition]
    if sum(each.sent_at <= verdict.sent_at for each in sent) < 2:
        return "and was sent once"
    if verdict.kind not in BEGINNING:
        return "and ended the lease itself"
    if verdict.received_at < leases.earliest_ends[verdict.lease] - CLOCK_SKEW_SECONDS:
        return f"{leases.earliest_ends[verdict.lease] - verdict.received_at:.3f} s before its lease expired"
    transitions = [state.transition for state in run.states]
    if not any(
        state.transition is None or leases.number(state) > leases.numbers[verdict.lease]
        for state in run.states[transitions.index(verdict.transition) + 1 :]
    ):
        return "and the lease was not lost after it"
    return None


def no_write_was_accepted_under_a_lost_lease(evidence: Evidence) -> Iterator[str]:
    """Check that no state of an earlier lease follows a state of a later lease, or the state by which its lease expired."""
    leases = Leases(evidence)
    for run in evidence.runs:
        latest, lost = 0, 0
        for state in run.states[1:]:
            lease = leases.lease_of(state)
            if lease is None:
                lost = latest
                continue
            attempt = leases.numbers[lease]
            if attempt < latest or attempt <= lost:
                yield f"{run.id} became {state.name} under its delivery {attempt}, after {max(latest, lost)} was lost"
            latest = max(latest, attempt)


def no_run_has_two_live_leases(evidence: Evidence) -> Iterator[str]:
    leases: dict[tuple[str, int], set[str]] = defaultdict(set)
    claimed: dict[str, list[tuple[int, float]]] = defaultdict(list)
    attempts: dict[str, int] = {}
    for claim in evidence.claims:
        leases[claim.run, claim.attempt].add(claim.lease)
        claimed[claim.run].append((claim.attempt, claim.at))
        attempts[claim.lease] = claim.attempt
    for (run, attempt), found in leases.items():
        if len(found) > 1:
            yield f"{run} has {len(found)} leases for its delivery {attempt}"
    for each in evidence.verdicts:
        later = [at for attempt, at in claimed[each.run] if attempt > attempts[each.lease]]
        if each.was_held and later and each.sent_at > min(later):
            yield f"{each.run}: {each.kind} under delivery {attempts[each.lease]} was accepted after a later delivery"


def no_lease_ends_early(evidence: Evidence) -> Iterator[str]:
    """Check that each lease lasts for its full duration after the acknowledgement and after each renewal."""
    leases = Leases(evidence)
    held: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for claim in evidence.claims:
        if claim.lease in leases.earliest_ends:
            held[claim.run].append((claim.attempt, leases.earliest_ends[claim.lease]))
    for claim in evidence.claims:
        for attempt, ends_at in held[claim.run]:
            if attempt < claim.attempt and claim.at < ends_at - CLOCK_SKEW_SECONDS:
                yield f"{claim.run} was delivered again {ends_at - claim.at:.3f} s before lease {attempt} expired"
    for run in evidence.runs:
        current = 0
        for state in run.states[1:]:
            if state.is_start or state.transition is not None:
                lease = leases.lease_of(state)
                current = leases.numbers[lease] if lease else 0
                continue
            for attempt, ends_at in held[run.id]:
                if attempt == current and state.latest_at < ends_at - CLOCK_SKEW_SECONDS:
                    yield f"{run.id} became {state.name} {ends_at - state.latest_at:.3f} s before lease {attempt} expired"


def live_work_outlasts_times_without_a_server(evidence: Evidence) -> Iterator[str]:
    """Check that no live work is thrown away because no server could renew its lease.

    Work is live if its worker renewed the lease shortly before the last server became absent, sent renewals steadily from
    then on, did not end the lease itself, and was neither killed nor paused. From the start of a time without a server
    until one lease time after its end, no server may end the lease and change the state of the run by itself, unless a
    renewal that was sent after the end got no response.
    """
    leases = Leases(evidence)
    times = times_without_a_server(evidence)
    for run in evidence.runs:
        lease: str | None = None
        for state in run.states[1:]:
            if state.is_start or state.transition is not None:
                lease = leases.lease_of(state)
                continue
            if lease is None:
                continue
            for start, end in times:
                until = end + evidence.lease_seconds - CLOCK_SKEW_SECONDS
                if start <= state.latest_at < until and leases.was_live(lease, start, end, state.latest_at):
                    yield f"{run.id} became {state.name} {state.latest_at - end:.3f} s after a time without a server"
            lease = None


def live_leases(evidence: Evidence) -> int:
    """Return how often a lease was live when a time without a server ended: what the check of live work covers."""
    leases = Leases(evidence)
    return sum(
        leases.was_live(claim.lease, start, end, end)
        for claim in evidence.claims
        for start, end in times_without_a_server(evidence)
    )


def times_without_a_server(evidence: Evidence) -> list[tuple[float, float]]:
    """Return the intervals in which the database or all servers were absent. Adjoining intervals are merged."""
    per_server = [_merged(_intervals(evidence, server)) for server in evidence.servers]
    together = per_server[0] if per_server else []
    for each in per_server[1:]:
        together = [
            (max(start, other_start), min(end, other_end))
            for start, end in together
            for other_start, other_end in each
            if max(start, other_start) < min(end, other_end)
        ]
    return _merged([*together, *_intervals(evidence, DATABASE)])


def _intervals(evidence: Evidence, name: str) -> list[tuple[float, float]]:
    return [(each.start, each.end) for each in evidence.absences if each.of == name]


def _merged(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


class Leases:
    """What the journals of the workers say about each lease."""

    def __init__(self, evidence: Evidence) -> None:
        self._lease_seconds = evidence.lease_seconds
        self.numbers = {claim.lease: claim.attempt for claim in evidence.claims}
        """Which delivery of its run each lease belongs to, counted from 1."""
        self._by_transition = {each.transition: each.lease for each in evidence.attempts if each.transition}
        self.starts = _starts(evidence)
        """The state by which each started delivery was started."""
        self._by_start = {state.id: lease for lease, state in self.starts.items()}
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        for each in evidence.attempts:
            self.attempts[each.lease].append(each)
        self._workers = {claim.lease: claim.worker for claim in evidence.claims}
        self._absences: dict[str, list[Absence]] = defaultdict(list)
        for each in evidence.absences:
            self._absences[each.of].append(each)
        self._responded = {(each.lease, each.sent_at) for each in evidence.verdicts if each.kind == "RENEW"}
        self._renewed: dict[str, list[float]] = defaultdict(list)
        for each in evidence.verdicts:
            if each.kind == "RENEW" and each.status == "HELD":
                self._renewed[each.lease].append(each.sent_at)
        self.earliest_ends = _earliest_ends(evidence)
        """The earliest possible end of each acknowledged lease."""

    def lease_of(self, state: State) -> str | None:
        """Return the lease under which a worker or a claim set the state.

        None for a state that the server set by itself, and for the start of a delivery that no worker received.
        """
        return self._by_start.get(state.id) if state.transition is None else self._by_transition[state.transition]

    def number(self, state: State) -> int:
        """Return which delivery of its run a proposed state belongs to."""
        assert state.transition is not None
        return self.numbers[self._by_transition[state.transition]]

    def was_live(self, lease: str, start: float, end: float, ended_at: float) -> bool:
        """Return whether the work under the lease, which ended at `ended_at`, survives from `start` to `end`.

        In that time no server was available. The conditions are those of `live_work_outlasts_times_without_a_server`.
        """
        longest = STEADY_RENEWAL * self._lease_seconds
        renewed = [at for at in self._renewed[lease] if start - longest <= at <= start]
        if not renewed:
            return False
        since = max(renewed)
        attempts = [each for each in self.attempts[lease] if since <= each.sent_at <= ended_at]
        renewals = sorted(each.sent_at for each in attempts if each.kind == "RENEW")
        return (
            not any(each.kind in RELEASING_REQUESTS for each in attempts)
            and not any(each.start <= ended_at and each.end >= since for each in self._absences[self._workers[lease]])
            and all(after - before <= longest for before, after in pairwise([*renewals, ended_at]))
            and all((lease, at) in self._responded for at in renewals if end <= at <= ended_at - longest)
        )


def _starts(evidence: Evidence) -> dict[str, State]:
    """Return the state by which each started delivery was started: the first start after its lease was created.

    Ids begin with the time of their creation, and a claim creates the lease before the state.
    """
    starts = {run.id: sorted(filter(_is_start, run.states), key=_id_of) for run in evidence.runs}
    found: dict[str, State] = {}
    for claim in evidence.claims:
        later = [state for state in starts[claim.run] if state.id > claim.lease]
        if claim.is_started and later:
            found[claim.lease] = later[0]
    return found


def _is_start(state: State) -> bool:
    return state.is_start


def _id_of(state: State) -> str:
    return state.id


def _earliest_ends(evidence: Evidence) -> dict[str, float]:
    """Return the earliest possible end of each acknowledged lease.

    The requests and responses of its worker show it, and states in the history whose responses were lost.
    """
    leases = {each.transition: each.lease for each in evidence.attempts if each.transition}
    held_leases = {each.lease for each in evidence.verdicts if each.was_held}
    held_leases |= {leases[state.transition] for run in evidence.runs for state in run.states if state.transition}
    ends: dict[str, float] = {}
    for each in evidence.attempts:
        # Any of these requests may have acknowledged the lease, but not before it was sent.
        if each.lease in held_leases:
            ends[each.lease] = min(ends.get(each.lease, float("inf")), each.sent_at + evidence.lease_seconds)
    for each in evidence.verdicts:
        if each.kind == "RENEW" and each.status == "HELD":
            ends[each.lease] = max(ends[each.lease], each.sent_at + evidence.lease_seconds)
    for each in evidence.attempts:
        if each.lease in ends and each.kind in RELEASING_REQUESTS:
            ends[each.lease] = min(ends[each.lease], each.sent_at)
    return ends
