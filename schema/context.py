"""Context of an operation: the database, the queue, and loaders that batch the reads of its fields."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import strawberry
from strawberry.dataloader import DataLoader

from db.connection import Connection
from db.database import Database
from db.records import (
    DeploymentRecord,
    FlowRecord,
    FlowRunRecord,
    QueueEntryRecord,
    StateRecord,
    TaskRunRecord,
)
from db.runtime.deadlines import Deadline
from resolvers import concurrency_limits, flow_runs, flows, lists, nodes, task_runs
from resolvers.api_tokens import Caller
from resolvers.delivery import workers
from resolvers.delivery.dispatcher import Dispatcher
from resolvers.delivery.subscribers import ClientConnection
from resolvers.delivery.workers import WorkerConnections
from resolvers.lists import CountRequest, ListPage, PageRequest
from resolvers.nodes import AnyRecord
from resolvers.queue.wait_reasons import WaitReason
from resolvers.state_changes import StateFeed
from resolvers.waits import Waits
from resolvers.write_operations import CapacityCheckedWrites
from schema.execution.selections import Selections
from schema.limits.options import DEFAULT_OPTIONS, RequestLimits
from schema.permissions import Scopes

Key = TypeVar("Key")
Value = TypeVar("Value")


class Loaders:
    """Loaders of one operation. Each reads the rows for many keys in one statement."""

    def __init__(self, database: Database, dispatcher: Dispatcher, writes: CapacityCheckedWrites) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._writes = writes

    @cached_property
    def flows(self) -> DataLoader[str, FlowRecord | None]:
        return self._loader(flows.read_flows)

    @cached_property
    def deployments(self) -> DataLoader[str, DeploymentRecord | None]:
        return self._loader(flows.read_deployments)

    @cached_property
    def task_runs(self) -> DataLoader[str, TaskRunRecord | None]:
        return self._loader(task_runs.read_task_runs)

    @cached_property
    def flow_runs(self) -> DataLoader[str, FlowRunRecord | None]:
        return self._loader(flow_runs.read_flow_runs)

    @cached_property
    def child_flow_runs(self) -> DataLoader[str, FlowRunRecord | None]:
        return self._loader(flow_runs.read_child_flow_runs)

    @cached_property
    def flow_run_histories(self) -> DataLoader[str, list[StateRecord]]:
        return self._loader(flow_runs.read_histories)

    @cached_property
    def task_run_histories(self) -> DataLoader[str, list[StateRecord]]:
        return self._loader(task_runs.read_histories)

    @cached_property
    def queue_entries(self) -> DataLoader[str, QueueEntryRecord | None]:
        return self._loader(task_runs.read_queue_entries)

    @cached_property
    def wait_reasons(self) -> DataLoader[QueueEntryRecord, WaitReason | None]:
        database, dispatcher = self._database, self._dispatcher

        async def load(entries: list[QueueEntryRecord]) -> list[WaitReason | None]:
            connections = WorkerConnections.of(dispatcher.workers, is_shared=database.is_shared)
            return await database.read(lambda connection: workers.read_wait_reasons(connection, entries, connections))

        return DataLoader(load_fn=load, cache=False)

    @cached_property
    def waiting_run_counts(self) -> DataLoader[str, int]:
        return self._loader(concurrency_limits.count_waiting_runs)

    @cached_property
    def nodes(self) -> DataLoader[str, AnyRecord | None]:
        database, dispatcher, capacity = self._database, self._dispatcher, self._writes.capacity

        async def load(ids: list[str]) -> list[AnyRecord | None]:
            subscriber_counts = dispatcher.subscriber_counts()
            return await database.read(
                lambda connection: nodes.read_nodes(connection, ids, subscriber_counts, capacity)
            )

        return DataLoader(load_fn=load, cache=False)

    @cached_property
    def pages(self) -> DataLoader[PageRequest[Any], ListPage[Any]]:
        return self._loader(lists.read_pages)

    @cached_property
    def counts(self) -> DataLoader[CountRequest, int]:
        return self._loader(lists.count_lists)

    def _loader(self, read: Callable[[Connection, Sequence[Key]], list[Value]]) -> DataLoader[Key, Value]:
        database = self._database

        async def load(keys: list[Key]) -> list[Value]:
            return await database.read(lambda connection: read(connection, keys))

        # Not cached: the context of a subscription lasts as long as its stream, and cached rows would go stale.
        return DataLoader(load_fn=load, cache=False)


class LimitsMetadata(Protocol):
    """Limits of this server on requests, returned by `Query.server`."""

    @property
    def max_body_bytes(self) -> int: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def max_response_bytes(self) -> int: ...
    @property
    def max_page_size(self) -> int: ...
    @property
    def max_task_keys(self) -> int: ...
    @property
    def max_batch(self) -> int: ...


class ServerMetadata(Protocol):
    """Facts about this server process, returned by `Query.server`."""

    @property
    def version(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def started_at(self) -> str: ...
    @property
    def limits(self) -> LimitsMetadata: ...


@dataclass(slots=True)
class Context:
    """Dependencies and state that the fields of one operation share."""

    database: Database
    dispatcher: Dispatcher
    feed: StateFeed
    waits: Waits
    writes: CapacityCheckedWrites
    server: ServerMetadata
    loaders: Loaders
    limits: RequestLimits = DEFAULT_OPTIONS.limits
    """Limits for arguments, such as the maximum page size."""
    caller: Caller | None = None
    """The authenticated caller; None when authentication is disabled."""
    connection_params: object = None
    """Payload of `connection_init`; None over HTTP."""
    peer: ClientConnection = field(default_factory=ClientConnection)
    """The client side of the WebSocket connection."""
    selections: Selections | None = None
    """Selections of the operation; None unless generated functions complete its plain data."""
    deadline: Deadline | None = None
    """Deadline of a query or mutation; None for a subscription, which has no time limit."""

    @property
    def scopes(self) -> Scopes | None:
        """The scopes of the caller's token, or None when no token is required."""
        return None if self.caller is None else self.caller.scopes

    def extend_deadline(self, seconds: float) -> None:
        """Extend the deadline, if there is one, for a field that waits for an event."""
        if self.deadline is not None:
            self.deadline.extend(seconds)

    @classmethod
    def create(
        cls,
        database: Database,
        dispatcher: Dispatcher,
        feed: StateFeed,
        waits: Waits,
        writes: CapacityCheckedWrites,
        server: ServerMetadata,
        limits: RequestLimits = DEFAULT_OPTIONS.limits,
    ) -> "Context":
        return cls(database, dispatcher, feed, waits, writes, server, Loaders(database, dispatcher, writes), limits)

    def for_caller(self, caller: Caller) -> "Context":
        """Copy the context for an authenticated caller."""
        return replace(self, caller=caller)

    def for_socket(self) -> "Context":
        """Copy the context for one WebSocket connection, with a new peer."""
        return replace(self, peer=ClientConnection())

    def for_operation(self) -> "Context":
        """Copy the context for one operation, with new loaders: loaded rows must not outlive the operation."""
        return Context(
            self.database,
            self.dispatcher,
            self.feed,
            self.waits,
            self.writes,
            self.server,
            Loaders(self.database, self.dispatcher, self.writes),
            self.limits,
            self.caller,
            self.connection_params,
            self.peer,
        )


Info = strawberry.Info[Context, None]
