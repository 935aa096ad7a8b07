"""The plan of a chaos test, derived from the seed: the runs to create, the workers, and the faults."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.lease_requests import KEYS
from tests.chaos.worker import KINDS

LIMITED_TAG = "scarce"
LIMIT = 4

MAX_BATCH_SIZE = 20


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a chaos test."""

    seed: int
    seconds: float
    """Seconds for which faults are injected; runs are created in the first four fifths."""
    runs: int
    database: str
    """`sqlite` or `postgresql`."""
    pooler: bool = False
    """Whether servers use PostgreSQL through PgBouncer, which pools by transaction and is restarted."""
    failovers: int = 0
    """Number of failovers of PostgreSQL to a synchronous standby, at equal intervals."""
    workers: int = 6
    lease_seconds: float = 6.0
    """At least six heartbeats: shorter times without a server do not extend leases, and cost less than a third of one."""
    longest_run_seconds: float = 3.0
    settle_seconds: float = 600.0
    """Time limit in seconds, after the last fault for creating all runs, and after that for ending them."""

    @property
    def replicas(self) -> int:
        return 2 if self.database == "postgresql" else 1


@dataclass(frozen=True, slots=True)
class NewRun:
    """A planned run, due `due_in_seconds` after its creation."""

    input: dict[str, Any]
    due_in_seconds: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs to create in one request, `at` seconds after the start."""

    at: float
    runs: Sequence[NewRun]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to inject `at` seconds after the start."""

    at: float
    kind: str
    chance: float
    """Random number from 0 to 1 that selects the target and the duration."""


FAULTS: dict[str, float] = {
    "worker killed": 4,
    "worker paused past its lease": 3,
    "sockets dropped": 3,
    "server killed": 2,
    "server stopped": 2,
    "all servers suspended": 1,
    "clock of a server stepped": 2,
    "rows locked": 3,
}
"""Relative frequency of each kind."""

POSTGRESQL_FAULTS: dict[str, float] = {
    "database connections terminated": 2,
    "PostgreSQL crashed": 1,
    "server suspended": 2,
    "clock of PostgreSQL stepped": 0.4,
}

POOLER_FAULTS: dict[str, float] = {"PgBouncer restarted": 2}


def plan_worker_kinds(options: Options) -> list[str]:
    """Plan how each worker receives runs. Every kind is used if there are enough workers."""
    rng = Random(options.seed + 3)  # noqa: S311 - a seed must reproduce the plan
    kinds = rng.sample(KINDS, len(KINDS))
    return [kinds[number] if number < len(kinds) else rng.choice(KINDS) for number in range(options.workers)]


def plan_batches(options: Options) -> list[Batch]:
    """Plan the creation of all runs, in batches, over the first four fifths of the time."""
    rng = Random(options.seed)  # noqa: S311 - a seed must reproduce the plan
    longest = options.longest_run_seconds
    batches: list[Batch] = []
    planned = 0
    while planned < options.runs:
        size = min(rng.choice([1, 1, 1, MAX_BATCH_SIZE]), options.runs - planned)
        runs = [_new_run(rng, planned + number, longest) for number in range(size)]
        batches.append(Batch(0.8 * options.seconds * planned / options.runs, runs))
        planned += size
    return batches


def _new_run(rng: Random, number: int, longest_seconds: float) -> NewRun:
    is_long, is_limited, is_scheduled_later = (rng.random() < share for share in (0.04, 0.05, 0.1))
    parameters = {
        "seconds": rng.uniform(0.5, longest_seconds) if is_long else rng.uniform(0.15, 0.4) if is_limited else 0.01,
        "failures": rng.choice([0, 0, 0, 0, 0, 0, 0, 1, 1, 2]),
    }
    input = {
        "taskKey": rng.choice(KEYS),
        "dynamicKey": f"run-{number}",
        "parameters": parameters,
        "tags": [LIMITED_TAG] if is_limited else [],
        "retryPolicy": {"retries": rng.choice([0, 1, 3, 3]), "retryDelaySeconds": [0.2]},
        "state": {"type": "SCHEDULED"},
    }
    return NewRun(input, rng.uniform(0, 4) if is_scheduled_later else 0)


def plan_faults(options: Options) -> list[Fault]:
    """Plan faults at intervals of 0.5 to 2 seconds, and the failovers."""
    rng = Random(options.seed + 1)  # noqa: S311 - a seed must reproduce the plan
    weights = FAULTS | (POSTGRESQL_FAULTS if options.database == "postgresql" else {})
    weights |= POOLER_FAULTS if options.pooler else {}
    faults = [
        Fault(options.seconds * (number + 1) / (options.failovers + 1), "failover", rng.random())
        for number in range(options.failovers)
    ]
    at = 0.0
    while (at := at + rng.uniform(0.5, 2.0)) < options.seconds:
        (kind,) = rng.choices(list(weights), list(weights.values()))
        faults.append(Fault(at, kind, rng.random()))
    return sorted(faults, key=lambda fault: fault.at)
