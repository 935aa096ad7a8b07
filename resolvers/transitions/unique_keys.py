"""Unique keys that the runs of a batch hold: at most one run that has not ended has a task key and unique key."""

from collections.abc import Iterable

from db.connection import Connection
from db.enums import TERMINAL
from db.records import TaskRunRecord
from db.statements import task_runs
from db.statements.task_runs import UniqueKey


class UniqueKeyLedger:
    """The runs that hold the unique keys of a batch's runs.

    It is updated after each decision, because later changes of the batch must see it. A unique index guards the keys
    against other servers: a transaction that conflicts is executed again.
    """

    def __init__(self, holders: dict[UniqueKey, TaskRunRecord]) -> None:
        self._holders = holders

    @classmethod
    def load(cls, connection: Connection, runs: Iterable[TaskRunRecord]) -> "UniqueKeyLedger":
        """Load the holders of the unique keys of these runs: one statement, and none for runs without unique keys."""
        keys = {key for run in runs if (key := _key_of(run)) is not None}
        return cls(task_runs.task_runs_by_unique_key(connection, sorted(keys)) if keys else {})

    def other_holder(self, run: TaskRunRecord) -> TaskRunRecord | None:
        """Return the other run that holds the unique key of `run`; None if no other run does."""
        key = _key_of(run)
        holder = None if key is None else self._holders.get(key)
        return None if holder is None or holder.id == run.id else holder

    def apply_state(self, run: TaskRunRecord) -> None:
        """Let a run that has entered a state hold its unique key, or free it when the state is terminal."""
        key = _key_of(run)
        if key is None or self.other_holder(run) is not None:
            return
        if run.state_type in TERMINAL:
            self._holders.pop(key, None)
        else:
            self._holders[key] = run


def _key_of(run: TaskRunRecord) -> UniqueKey | None:
    return None if run.unique_key is None else (run.task_key, run.unique_key)
