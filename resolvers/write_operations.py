"""Write operations that can queue task runs, with the limits of the queues applied.

The operations are methods of one object, because group commit combines concurrent calls of the same callable: bound
methods of one object are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from resolvers import task_runs
from resolvers.bulk_changes import task_runs as bulk_changes
from resolvers.bulk_changes.pages import BulkChangeResult
from resolvers.bulk_changes.task_runs import TaskRunBulkChange
from resolvers.delivery.exchange import ExchangeItem, ItemResult, exchange_items
from resolvers.queue.capacity import QueueCapacity
from resolvers.task_runs import CreatedTaskRun, NewTaskRun
from resolvers.transitions import set_states
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult


@dataclass(frozen=True, slots=True, eq=False)
class CapacityCheckedWrites:
    """Creates task runs, sets their states, and executes exchanges.

    Returns QueueFull for a run whose queue has reached its limit.
    """

    capacity: QueueCapacity

    def create_task_runs(
        self, connection: Connection, new_runs: Sequence[NewTaskRun]
    ) -> list[CreatedTaskRun | Exception]:
        return task_runs.create_task_runs(connection, new_runs, self.capacity)

    def create_all_task_runs(
        self, connection: Connection, batches: Sequence[Sequence[NewTaskRun]]
    ) -> list[list[CreatedTaskRun] | Exception]:
        return task_runs.create_all_task_runs(connection, batches, self.capacity)

    def set_task_run_states(
        self, connection: Connection, changes: Sequence[StateChange]
    ) -> list[TaskRunTransitionResult | Exception]:
        return set_states.set_task_run_states(connection, changes, self.capacity)

    def change_task_runs(
        self, connection: Connection, changes: Sequence[TaskRunBulkChange]
    ) -> list[BulkChangeResult | Exception]:
        return bulk_changes.change_task_runs(connection, changes, self.capacity)

    def exchange_items(self, connection: Connection, items: Sequence[ExchangeItem]) -> list[ItemResult]:
        return exchange_items(connection, items, self.capacity)
