"""How deep the queues are, for whoever watches: a bounded number of them by name, the rest as one."""

from collections.abc import Mapping
from dataclasses import dataclass

from db.connection import Connection
from db.records import QueueFigures
from db.runtime.timestamps import seconds_between
from db.statements.queue_stats import queue_figures

OTHER = "other"
"""The name under which all queues are added up that are not told apart."""


@dataclass(slots=True)
class QueueDepth:
    """How many runs are where in a queue, or in several."""

    scheduled: int = 0
    retry: int = 0
    delayed: int = 0
    leased: int = 0
    oldest_wait_seconds: float = 0.0
    """How long the run that has been due for longest has waited; 0 where none is due."""

    @classmethod
    def of(cls, figures: QueueFigures, now: str) -> "QueueDepth":
        wait = 0.0 if figures.oldest_due_at is None else max(0.0, seconds_between(figures.oldest_due_at, now))
        return cls(figures.scheduled, figures.retry, figures.delayed, figures.leased, wait)

    @property
    def runs(self) -> int:
        return self.scheduled + self.retry + self.delayed + self.leased

    def add(self, other: "QueueDepth") -> None:
        """Count another queue's runs, too."""
        self.scheduled += other.scheduled
        self.retry += other.retry
        self.delayed += other.delayed
        self.leased += other.leased
        self.oldest_wait_seconds = max(self.oldest_wait_seconds, other.oldest_wait_seconds)


def read_depths(connection: Connection, most: int) -> dict[str, QueueDepth]:
    """The depths of the queues that are not empty, by task key: of the `most` deepest, and of the rest together."""
    found = queue_figures(connection, None)
    return bounded({key: QueueDepth.of(figures, connection.now) for key, figures in found.items()}, most)


def bounded(depths: Mapping[str, QueueDepth], most: int) -> dict[str, QueueDepth]:
    """The `most` deepest of these queues, and the rest as one under the name `other`."""
    deepest = sorted(depths, key=lambda key: (-depths[key].runs, key))
    told = {key: depths[key] for key in deepest[:most] if key != OTHER}
    if len(told) < len(depths):
        rest = QueueDepth()
        for key in depths.keys() - told.keys():
            rest.add(depths[key])
        told[OTHER] = rest
    return told
