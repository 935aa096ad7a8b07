"""The writes by which clients add to the queues, kept within the queues' bounds.

As methods: those of one object are one operation, so that what is asked for at the same time becomes one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from resolvers import task_runs
from resolvers.queue.capacity import QueueBounds
from resolvers.task_runs import CreatedTaskRun, NewTaskRun
from resolvers.transitions import set_states
from resolvers.transitions.set_states import StateChange, TaskRunOutcome


@dataclass(frozen=True, slots=True, eq=False)
class BoundedWrites:
    """Creating task runs and setting their states. QueueFull for what would queue a run where there is no room."""

    bounds: QueueBounds

    def create_task_runs(
        self, connection: Connection, wanted: Sequence[NewTaskRun]
    ) -> list[CreatedTaskRun | Exception]:
        return task_runs.create_task_runs(connection, wanted, self.bounds)

    def create_all_task_runs(
        self, connection: Connection, batches: Sequence[Sequence[NewTaskRun]]
    ) -> list[list[CreatedTaskRun] | Exception]:
        return task_runs.create_all_task_runs(connection, batches, self.bounds)

    def set_task_run_states(
        self, connection: Connection, changes: Sequence[StateChange]
    ) -> list[TaskRunOutcome | Exception]:
        return set_states.set_task_run_states(connection, changes, self.bounds)
