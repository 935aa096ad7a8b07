"""Adaptive batch sizes for reads whose rows may have a few bytes or several megabytes."""

from contextlib import AbstractContextManager

from db.connection import Connection
from db.runtime.memory_budget import ReadTooLarge

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Maximum size of a batch. The reader holds a batch in memory until all its rows are passed on."""

SUCCESSES_BEFORE_GROWTH = 16
"""Number of batches that must fit before a larger size is tried. On PostgreSQL, each batch that exceeds the limit costs
a connection."""


def limit_read_size(connection: Connection, size: int) -> AbstractContextManager[None]:
    """Limit reads in the context to `MAX_BATCH_BYTES`. A single row is always read, whatever its size."""
    return connection.read_budget.limited_to(None if size == 1 else MAX_BATCH_BYTES)


class AdaptiveBatchSize:
    """A number of rows that is halved when a batch exceeds the read limit, and doubled again while batches fit."""

    def __init__(self, max_size: int) -> None:
        self.size = max_size
        self._max_size = max_size
        self._successes = 0

    def shrink(self, size: int, error: ReadTooLarge) -> None:
        """Halve the size after a batch of `size` rows exceeded the limit. Raises `error` if it was a single row."""
        if size == 1:
            raise error
        self.size = min(self.size, size // 2)
        self._successes = 0

    def record_success(self) -> None:
        """Count a batch that fitted, and double the size after `SUCCESSES_BEFORE_GROWTH` of them."""
        if self.size == self._max_size:
            return
        self._successes += 1
        if self._successes == SUCCESSES_BEFORE_GROWTH:
            self.size = min(2 * self.size, self._max_size)
            self._successes = 0
