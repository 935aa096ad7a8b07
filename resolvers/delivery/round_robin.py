"""Whose turn it is, from claim to claim.

Workers come and go, some of them with each claim, so this is kept by key and not by worker. Only hints: what is forgotten
costs a key a turn, and no run.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from resolvers.delivery.claim import Claim

MOST_KEYS = 10_000
"""How many keys are remembered; those that were served longest ago are forgotten first."""


@dataclass(frozen=True, slots=True)
class _Served:
    """When a key was last served, by the number of the delivery, and how it stands between its two sides."""

    number: int
    retries_in_a_row: int


_NEVER = _Served(0, 0)


class Turns:
    """What was served lately."""

    def __init__(self) -> None:
        self._served: dict[str, _Served] = {}
        self._numbers = itertools.count(1)

    def in_turn(self, task_keys: Iterable[str]) -> list[str]:
        """The keys in the order of their turns: the one that was served longest ago is first."""
        return sorted(task_keys, key=lambda key: (self._served.get(key, _NEVER).number, key))

    def retries_in_a_row(self, task_keys: Iterable[str]) -> dict[str, int]:
        """For each key, how many of its retry side have gone out since the last of its scheduled side."""
        return {key: self._served.get(key, _NEVER).retries_in_a_row for key in task_keys}

    def note(self, claim: Claim) -> None:
        """Remember what was served."""
        for delivery in claim.deliveries:
            key = delivery.task_run.task_key
            self._served.pop(key, None)
            self._served[key] = _Served(next(self._numbers), claim.retries_in_a_row[key])
        for key in list(itertools.islice(self._served, max(0, len(self._served) - MOST_KEYS))):
            del self._served[key]
