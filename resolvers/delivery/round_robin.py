"""Round robin over task keys, remembered between claims.

It is stored by task key and not by worker, because a worker may exist for only one claim. It is a hint: forgetting a key
can cost the key a turn and never a run.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from resolvers.delivery.claim import Claim

MAX_KEYS = 10_000
"""Maximum number of keys remembered. The least recently served keys are forgotten first."""


@dataclass(frozen=True, slots=True)
class _LastServed:
    """Sequence number of the last delivery of a key, and its consecutive deliveries from the retry side."""

    number: int
    consecutive_retries: int


_NEVER = _LastServed(0, 0)


class RoundRobin:
    """The order in which task keys are served."""

    def __init__(self) -> None:
        self._served: dict[str, _LastServed] = {}
        self._numbers = itertools.count(1)

    def order_keys(self, task_keys: Iterable[str]) -> list[str]:
        """Return the keys in the order of their turns, the least recently served first. Ties are sorted by key."""
        return sorted(task_keys, key=lambda key: (self._served.get(key, _NEVER).number, key))

    def consecutive_retries(self, task_keys: Iterable[str]) -> dict[str, int]:
        """Return for each key the number of deliveries from its retry side since the last one from its scheduled side."""
        return {key: self._served.get(key, _NEVER).consecutive_retries for key in task_keys}

    def record(self, claim: Claim) -> None:
        """Record the deliveries of a claim."""
        for delivery in claim.deliveries:
            key = delivery.task_run.task_key
            self._served.pop(key, None)
            self._served[key] = _LastServed(next(self._numbers), claim.consecutive_retries[key])
        for key in list(itertools.islice(self._served, max(0, len(self._served) - MAX_KEYS))):
            del self._served[key]
