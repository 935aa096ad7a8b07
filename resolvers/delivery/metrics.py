"""What the queue counts of its own work."""

from collections import Counter
from dataclasses import dataclass, field

from db.runtime.histograms import SECONDS, Distribution
from resolvers.delivery.claim import Claim


@dataclass(slots=True)
class QueueCounts:
    """What this server has claimed, delivered and taken back since it started."""

    taken_back: Counter[str]
    """Leases that ran out, by what became of the run, as `take_back_from_lost_workers` says it."""
    claim_seconds: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """How long each claim took, its wait for other writes included."""
    first_deliveries: int = 0
    redeliveries: int = 0
    """Deliveries of runs that had been delivered before."""

    def count(self, claim: Claim, seconds: float) -> None:
        """Count a claim that took so many seconds, and its deliveries."""
        self.claim_seconds.add(seconds)
        first = sum(delivery.attempt == 1 for delivery in claim.deliveries)
        self.first_deliveries += first
        self.redeliveries += len(claim.deliveries) - first
