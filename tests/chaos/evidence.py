"""What is known after a run of chaos: what creators and workers wrote down, and what the tables say."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Journal:
    """A file that one process writes what it saw to: a line each, out of the process at once, so that kill -9 loses none."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, **facts: object) -> None:
        os.write(self._file, json.dumps({"what": what, **facts}).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Creation:
    """An answer to a creator."""

    dynamic_key: str
    run: str
    created: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that a worker received. Moments are seconds by the machine's clock, which all go by."""

    at: float
    worker: str
    run: str
    lease: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that a worker sent under a lease; noted before it was sent. `transition` names a state that was proposed."""

    sent_at: float
    run: str
    lease: str
    kind: str
    """A type of state, or RENEW, ACKNOWLEDGE, RELEASE."""
    transition: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to an attempt: a status of orchestration, or HELD, LOST."""

    sent_at: float
    run: str
    lease: str
    kind: str
    status: str
    created: bool
    transition: str | None = None

    @property
    def was_held(self) -> bool:
        """Whether the answer says that the lease was held when the request was served."""
        return self.status == "HELD" or self.created


@dataclass(frozen=True, slots=True)
class State:
    type: str
    name: str
    at: float
    transition: str | None = None
    scheduled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the tables have it, with its states, oldest first."""

    id: str
    dynamic_key: str
    retries: int
    tags: tuple[str, ...]
    states: tuple[State, ...]


@dataclass(slots=True)
class Evidence:
    """All of it."""

    planned: list[str]
    """The dynamic keys of all runs that were to be created."""
    lease_seconds: float
    limits: dict[str, int]
    runs: list[Run] = field(default_factory=list)
    creations: list[Creation] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    """The runs that are still in the queue."""
    slots: list[str] = field(default_factory=list)
    """The runs that still hold a slot."""
    faults: list[str] = field(default_factory=list)
    """What servers logged, or answered, that is their own fault."""

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
