"""Metrics of delivery."""

from collections import Counter
from dataclasses import dataclass, field

from db.runtime.histograms import SECONDS_BUCKETS, Histogram
from resolvers.delivery.claim import Claim


@dataclass(slots=True)
class DeliveryMetrics:
    """Claims, deliveries and recovered leases of this server since it started."""

    recovered: Counter[str]
    """Number of expired leases by outcome, as returned by `recover_expired_leases`."""
    claim_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BUCKETS))
    """Duration of each claim, including its wait for other writes."""
    first_deliveries: int = 0
    """Number of deliveries of runs that had not been delivered before."""
    redeliveries: int = 0
    """Number of deliveries of runs that had been delivered before."""
    expired: int = 0
    """Number of runs that this server has cancelled because they had expired."""
    timed_out: int = 0
    """Number of runs that this server has ended because they had exceeded their time limits."""

    def record(self, claim: Claim, seconds: float) -> None:
        """Record the duration and the deliveries of a claim."""
        self.claim_seconds.add(seconds)
        first = sum(delivery.attempt == 1 for delivery in claim.deliveries)
        self.first_deliveries += first
        self.redeliveries += len(claim.deliveries) - first
        self.expired += claim.expired
