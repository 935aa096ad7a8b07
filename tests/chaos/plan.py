"""What is to happen in a run of chaos, all of it drawn from the seed: which runs, and which faults at which moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.worker import KEYS

LIMITED_TAG = "scarce"
LIMIT = 4

LARGEST_BATCH = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of chaos."""

    seed: int
    seconds: float
    """For how long faults are injected; runs are created over most of it."""
    runs: int
    database: str
    """sqlite or postgresql"""
    workers: int = 4
    lease_seconds: float = 2.0
    settle_seconds: float = 600.0
    """How long it may take after the last fault until all runs are created, and then until they have ended."""

    @property
    def replicas(self) -> int:
        return 2 if self.database == "postgresql" else 1


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be created, so many seconds ahead of its time."""

    input: dict[str, Any]
    ahead: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs that are to be created together, so many seconds after the beginning."""

    at: float
    runs: Sequence[NewRun]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is to go wrong, so many seconds after the beginning."""

    at: float
    kind: str
    chance: float
    """From 0 to 1: whom it befalls, and for how long."""


FAULTS = {
    "worker killed": 4,
    "worker paused past its lease": 3,
    "sockets cut": 3,
    "server killed": 2,
    "server stopped": 2,
}
"""How often each kind is drawn, in proportion."""

FAULTS_OF_POSTGRESQL = {"database connections cut": 2, "PostgreSQL restarted at once": 1}


def plan_batches(options: Options) -> list[Batch]:
    """All runs, one or several at a time, over the first four fifths of the time."""
    chance = Random(options.seed)  # noqa: S311 - it has to be the same again
    batches: list[Batch] = []
    planned = 0
    while planned < options.runs:
        size = min(chance.choice([1, 1, 1, LARGEST_BATCH]), options.runs - planned)
        runs = [_new_run(chance, planned + number) for number in range(size)]
        batches.append(Batch(0.8 * options.seconds * planned / options.runs, runs))
        planned += size
    return batches


def _new_run(chance: Random, number: int) -> NewRun:
    is_long, is_limited, is_ahead = (chance.random() < share for share in (0.02, 0.05, 0.1))
    parameters = {
        "seconds": chance.uniform(0.5, 3.0) if is_long else chance.uniform(0.15, 0.4) if is_limited else 0.01,
        "failures": chance.choice([0, 0, 0, 0, 0, 0, 0, 1, 1, 2]),
    }
    input = {
        "taskKey": chance.choice(KEYS),
        "dynamicKey": f"run-{number}",
        "parameters": parameters,
        "tags": [LIMITED_TAG] if is_limited else [],
        "empiricalPolicy": {"retries": chance.choice([0, 1, 3, 3]), "retryDelaySeconds": [0.2]},
        "state": {"type": "SCHEDULED"},
    }
    return NewRun(input, chance.uniform(0, 4) if is_ahead else 0)


def plan_faults(options: Options) -> list[Fault]:
    """One after the other, about a second apart."""
    chance = Random(options.seed + 1)  # noqa: S311 - it has to be the same again
    weights = FAULTS | (FAULTS_OF_POSTGRESQL if options.database == "postgresql" else {})
    faults: list[Fault] = []
    at = 0.0
    while (at := at + chance.uniform(0.5, 2.0)) < options.seconds:
        (kind,) = chance.choices(list(weights), list(weights.values()))
        faults.append(Fault(at, kind, chance.random()))
    return faults
