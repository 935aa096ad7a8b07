"""The requests of this server that wait for events: the end of task runs, and signals of leases."""

from dataclasses import dataclass

from db.database import Database
from resolvers import ended_task_runs
from resolvers.delivery import lease_signals
from resolvers.wait_registry import WaitRegistry


@dataclass(frozen=True, slots=True)
class Waits:
    """The registries of waiting requests."""

    ended_task_runs: WaitRegistry
    lease_signals: WaitRegistry

    @classmethod
    def create(cls, database: Database, *, poll_seconds: float) -> "Waits":
        """Create the registries. `poll_seconds`: interval of checks for lost notifications on a shared database."""
        return cls(
            ended_task_runs.create_registry(database, poll_seconds),
            lease_signals.create_registry(database, poll_seconds),
        )

    def stop(self) -> None:
        """End all waits: their requests return an empty result."""
        self.ended_task_runs.stop()
        self.lease_signals.stop()
