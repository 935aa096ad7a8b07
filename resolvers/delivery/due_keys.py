"""The task keys that may have a due run, as far as this server knows. Claims skip all others.

Each key that a subscriber wants is in one of three states: it may have a due run, its next run is due at a known time,
or it has no waiting run. The last two are results of a claim, which a later notification overrides. They are hints: a
database that several servers share may lose notifications, so `expect_any` is called at every poll there.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

from db.runtime.timestamps import parse_timestamp


class DueKeys:
    """The task keys that subscribers want, and when each may have a due run."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        """`wanted`: the number of subscribers of each task key, maintained by the caller. Other keys are ignored."""
        self._wanted = wanted
        self._expected: set[str] = set()
        """Keys that may have a due run."""
        self._due_at: dict[str, datetime] = {}
        """Due time of the next run of each key that is known to have none due before."""
        self._next_due_at: datetime | None = None

    @property
    def next_due_at(self) -> datetime | None:
        """Earliest known due time of the keys that are not expected to have a due run yet, or None."""
        return self._next_due_at

    def expect(self, task_keys: Iterable[str]) -> None:
        """Record that these keys may have a due run. A running claim does not override this."""
        for key in task_keys:
            if key in self._wanted:
                self._expected.add(key)
                self._forget_due_time(key)

    def expect_any(self) -> None:
        """Record that every wanted key may have a due run."""
        self.expect(list(self._wanted))

    def forget(self, task_keys: Iterable[str]) -> None:
        """Forget those of these keys that no subscriber wants any more."""
        for key in task_keys:
            if key not in self._wanted:
                self._expected.discard(key)
                self._forget_due_time(key)

    def expected(self, now: datetime) -> AbstractSet[str]:
        """Return the keys that may have a run that is due at `now`."""
        if self._next_due_at is not None and self._next_due_at <= now:
            self.expect([key for key, due_at in self._due_at.items() if due_at <= now])
        return self._expected

    def begin_claim(self, task_keys: Iterable[str]) -> None:
        """Record that a claim is about to look for due runs of these keys."""
        self._expected.difference_update(task_keys)

    def complete_claim(self, task_keys: Iterable[str], next_due_at: Mapping[str, str]) -> None:
        """Record when the next run of each key is due. Keys without a waiting run are not in `next_due_at`.

        Has no effect on keys that `expect` was called for since the claim began: the claim may have missed the run.
        """
        for key in task_keys:
            if key in next_due_at and key in self._wanted and key not in self._expected:
                due_at = self._due_at[key] = parse_timestamp(next_due_at[key])
                self._next_due_at = min(due_at, self._next_due_at or due_at)

    def _forget_due_time(self, key: str) -> None:
        due_at = self._due_at.pop(key, None)
        if due_at is not None and due_at == self._next_due_at:
            self._next_due_at = min(self._due_at.values(), default=None)
