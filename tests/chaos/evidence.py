"""The evidence of a chaos test: the journals of creators, workers and waiting clients, and the database tables."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATABASE = "database"
"""Name of the database in `Evidence.absences`."""


class Journal:
    """An unbuffered log of one process, one JSON line per event: killing the process loses no event."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, **facts: object) -> None:
        os.write(self._file, json.dumps({"what": what, **facts}).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Creation:
    """A response to a creator."""

    dynamic_key: str
    run: str
    created: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that a worker received. Times are in seconds since the epoch, by the clock of the machine: real time."""

    at: float
    worker: str
    run: str
    lease: str
    attempt: int
    is_started: bool = False
    """Whether the claim was sent with `start`."""
    state_type: str = "SCHEDULED"
    """State type of the run, as the worker received it."""
    run_count: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request of a worker under a lease, recorded before it was sent. `transition` is the id of a proposed state."""

    sent_at: float
    run: str
    lease: str
    kind: str
    """A state type, or RENEW, ACKNOWLEDGE or RELEASE."""
    transition: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The response to an attempt: an orchestration status, or HELD or LOST."""

    sent_at: float
    run: str
    lease: str
    kind: str
    status: str
    state_created: bool
    transition: str | None = None
    received_at: float = float("inf")

    @property
    def was_held(self) -> bool:
        """Whether the response shows that the lease was held when the request was processed."""
        return self.status == "HELD" or self.state_created


@dataclass(frozen=True, slots=True)
class Awaited:
    """A run that a client waits for until its end is reported."""

    run: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A response to a client that waits for the ends of `runs`."""

    sent_at: float
    received_at: float
    runs: Sequence[str]
    ended: Sequence[Sequence[str]]
    """For each run that was reported as ended: its id, and the type and the name of its state."""
    not_found: Sequence[str] = ()
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A state in the history of a run."""

    type: str
    name: str
    at: float
    """The timestamp of the state, by the clock of a server or of the database, which may be wrong."""
    transition: str | None = None
    scheduled_at: float | None = None
    appeared: tuple[float, float] = (float("-inf"), float("inf"))
    """Interval of real time in which the state was committed: the observer of the table did not see it before."""
    id: str = ""

    @property
    def is_start(self) -> bool:
        """Whether a claim has set the state. Workers propose RUNNING with a transition id."""
        return self.type == "RUNNING" and self.transition is None

    @property
    def earliest_at(self) -> float:
        """Return the earliest real time at which the state can have been written."""
        return self.at if self._is_dated_correctly else self.appeared[0]

    @property
    def latest_at(self) -> float:
        """Return the latest real time at which the state can have been written."""
        return self.at if self._is_dated_correctly else self.appeared[1]

    @property
    def _is_dated_correctly(self) -> bool:
        return self.appeared[0] <= self.at <= self.appeared[1]


@dataclass(frozen=True, slots=True)
class Run:
    """A run in the database, with its states, oldest first."""

    id: str
    dynamic_key: str
    retries: int
    tags: tuple[str, ...]
    states: tuple[State, ...]
    run_count: int = 0


@dataclass(frozen=True, slots=True)
class Absence:
    """An interval of real time in which a server, a worker or the database was stopped, suspended or starting."""

    of: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A change of the wall clock that decides on due times: `offset` seconds ahead of real time from `at` on."""

    at: float
    offset: float


@dataclass(slots=True)
class Evidence:
    """All evidence of a chaos test."""

    planned: list[str]
    """The dynamic keys of all planned runs."""
    lease_seconds: float
    limits: dict[str, int]
    runs: list[Run] = field(default_factory=list)
    creations: list[Creation] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    awaited: list[Awaited] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    """The ids of runs that are still in the queue."""
    slots: list[str] = field(default_factory=list)
    """The ids of runs that still hold a slot."""
    servers: list[str] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    """When servers (by their names in `servers`), workers and the database (`DATABASE`) were absent."""
    clock_steps: list[ClockStep] = field(default_factory=list)
    """Steps of the clock that decides on due times, oldest first. Steps that must not matter are not listed."""
    faults: list[str] = field(default_factory=list)
    """Errors that servers logged, and responses with errors that are not retryable."""

    def read_journals(self, journals: Iterable[Path]) -> None:
        kinds: dict[str, tuple[type[Any], list[Any]]] = {
            "creation": (Creation, self.creations),
            "claim": (Claim, self.claims),
            "attempt": (Attempt, self.attempts),
            "verdict": (Verdict, self.verdicts),
            "awaited": (Awaited, self.awaited),
            "wait": (Wait, self.waits),
        }
        for journal in journals:
            for line in journal.read_bytes().splitlines():
                facts = json.loads(line)
                what = facts.pop("what")
                if what == "fault":
                    self.faults.append(facts["message"])
                else:
                    kind, found = kinds[what]
                    found.append(kind(**facts))
