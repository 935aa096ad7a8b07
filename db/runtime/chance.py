"""Random numbers, passed in as an argument: a test supplies its own."""

from typing import Protocol


class Chance(Protocol):
    """A source of random numbers, such as `random.random`."""

    def __call__(self) -> float:
        """Return a random number, at least 0 and below 1."""
        ...
