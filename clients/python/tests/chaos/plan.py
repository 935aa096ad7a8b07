"""The plan of a chaos test, derived from its seed: the runs to enqueue, and the faults."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

TASKS = ("chaos-loop", "chaos-thread", "chaos-process")

RETRIES = 6
"""Retries of each run: more than the failures that are planned, because faults use retries as well."""

HANGING_SECONDS = 60.0
"""How long the first attempt works of a run that is planned to exceed its time limit."""

BEHAVIOURS = {
    "return": 70,
    "raise": 8,
    "retry": 6,
    "snooze": 6,
    "hang": 2,
    "fail": 4,
    "refuse": 4,
}
"""What a run does, with the frequency of each. `fail` raises `Fail`; `refuse` returns what is not serialisable."""

ENDS_FAILED = frozenset({"fail", "refuse"})
"""Behaviours after which a run is FAILED without being retried."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a chaos test."""

    seed: int
    seconds: float
    """Seconds for which faults are injected. Runs are enqueued in the first four fifths."""
    runs: int
    database: str
    """`sqlite` or `postgresql`."""
    workers: int = 3
    enqueuers: int = 3
    concurrency: int = 8
    lease_seconds: float = 6.0
    drain_seconds: float = 2.0
    fault_seconds: float = 1.25
    """Mean time between the beginnings of two faults."""
    fault_kinds: Sequence[str] = ()
    """Kinds of faults to inject; all if empty."""
    settle_seconds: float = 120.0
    """Time limit for the end of all runs after the last fault."""

    @property
    def timeout_seconds(self) -> float:
        """Time limit of an attempt. All others are shorter, except those that are planned to exceed it."""
        return 2 * self.lease_seconds

    @property
    def servers(self) -> int:
        return 2 if self.database == "postgresql" else 1

    def processes_of(self, worker: int) -> int:
        """Return `--processes` of a worker: 1 and 0 alternate."""
        return (worker + 1) % 2


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to enqueue, `at` seconds after the start."""

    number: int
    at: float
    task: str
    behaviour: str
    seconds: float
    """How long an attempt works."""
    failures: int
    """How many attempts fail before one succeeds."""
    delay: float
    """Delay of the run after it is enqueued, in seconds."""
    cancel_after: float | None
    """When the run is cancelled after it was enqueued, in seconds."""

    @property
    def key(self) -> str:
        return f"run-{self.number}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: asdict(self)[name] for name in ("number", "behaviour", "seconds", "failures")}


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault to inject `at` seconds after the start. `chance` is a random number from 0 to 1 that selects its details."""

    at: float
    kind: str
    chance: float


FAULTS: dict[str, float] = {
    "worker killed": 2,
    "worker killed with its children": 2,
    "child killed": 3,
    "worker suspended": 3,
    "coordinator suspended": 1,
    "worker drained": 3,
    "server killed": 2,
    "server stopped": 2,
    "server suspended": 2,
    "connections cut": 3,
    "connections refused": 2,
    "responses lost": 5,
    "enqueuer killed": 2,
}
"""Relative frequency of each kind."""

POSTGRESQL_FAULTS: dict[str, float] = {
    "database connections terminated": 2,
    "PostgreSQL crashed": 1,
}


def plan_runs(options: Options) -> list[PlannedRun]:
    """Plan all runs, evenly over the first four fifths of the time."""
    rng = Random(options.seed)  # noqa: S311 - a seed must reproduce the plan
    step = 0.8 * options.seconds / options.runs
    return [_plan_run(rng, number, step * number, options.lease_seconds) for number in range(options.runs)]


def _plan_run(rng: Random, number: int, at: float, lease_seconds: float) -> PlannedRun:
    (behaviour,) = rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))
    (task,) = rng.choices(TASKS, (6, 3, 1))
    length = rng.choices(("short", "long", "longer than a lease"), (82, 15, 3))[0]
    is_delayed, is_cancelled = (rng.random() < share for share in (0.15, 0.1))
    return PlannedRun(
        number,
        at,
        task,
        behaviour,
        seconds={
            "short": rng.uniform(0.0, 0.1),
            "long": rng.uniform(0.5, 3.0),
            "longer than a lease": rng.uniform(1.3, 1.7) * lease_seconds,
        }[length],
        failures=rng.choice([1, 1, 2]),
        delay=rng.uniform(0.5, 4.0) if is_delayed else 0.0,
        cancel_after=rng.uniform(0.0, 1.5) if is_cancelled else None,
    )


def runs_of_enqueuer(options: Options, enqueuer: int) -> list[PlannedRun]:
    return plan_runs(options)[enqueuer :: options.enqueuers]


def plan_faults(options: Options) -> Iterator[PlannedFault]:
    """Plan the faults, beginning after 2 seconds: each kind once before any is repeated."""
    rng = Random(options.seed + 1)  # noqa: S311 - a seed must reproduce the plan
    weights = FAULTS | (POSTGRESQL_FAULTS if options.database == "postgresql" else {})
    weights = {kind: weights[kind] for kind in options.fault_kinds or weights}
    first = rng.sample(list(weights), len(weights))
    at = 2.0
    while at < options.seconds:
        kind = first.pop() if first else rng.choices(list(weights), list(weights.values()))[0]
        yield PlannedFault(at, kind, rng.random())
        at += options.fault_seconds * rng.uniform(0.4, 1.6)
