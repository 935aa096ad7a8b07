"""The evidence of a chaos test: the journals of creators and workers, and the database tables."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
    """A delivery that a worker received. Times are in seconds since the epoch, by the shared clock of the machine."""

    at: float
    worker: str
    run: str
    lease: str
    attempt: int


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

    @property
    def was_held(self) -> bool:
        """Whether the response shows that the lease was held when the request was processed."""
        return self.status == "HELD" or self.state_created


@dataclass(frozen=True, slots=True)
class State:
    type: str
    name: str
    at: float
    transition: str | None = None
    scheduled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run in the database, with its states, oldest first."""

    id: str
    dynamic_key: str
    retries: int
    tags: tuple[str, ...]
    states: tuple[State, ...]


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
    queued: list[str] = field(default_factory=list)
    """The ids of runs that are still in the queue."""
    slots: list[str] = field(default_factory=list)
    """The ids of runs that still hold a slot."""
    faults: list[str] = field(default_factory=list)
    """Errors that servers logged, and responses with errors that are not retryable."""

    def read_journals(self, journals: Iterable[Path]) -> None:
        kinds: dict[str, tuple[type[Any], list[Any]]] = {
            "creation": (Creation, self.creations),
            "claim": (Claim, self.claims),
            "attempt": (Attempt, self.attempts),
            "verdict": (Verdict, self.verdicts),
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
