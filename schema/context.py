"""What a field may ask for: the database, the queue, and loaders that gather what rows of one answer need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import strawberry
from strawberry.dataloader import DataLoader

from db.records import (
    DeploymentRecord,
    FlowRecord,
    FlowRunRecord,
    QueueEntryRecord,
    StateRecord,
    TaskRunRecord,
)
from resolvers import flow_runs, flows, lists, nodes, task_runs
from resolvers.api_tokens import Caller
from resolvers.delivery.dispatcher import Dispatcher
from resolvers.delivery.subscribers import Peer
from resolvers.lists import Page, Request, RowList
from resolvers.nodes import AnyRecord
from resolvers.state_changes import StateFeed
from resolvers.storage import Connection, Database, Deadline
from resolvers.write_operations import BoundedWrites
from schema.execution.selections import Selections
from schema.limits.options import DEFAULT, Limits

Key = TypeVar("Key")
Found = TypeVar("Found")
Answer = TypeVar("Answer")


class Loaders:
    """Reads that many rows of one operation ask for, made as one statement each."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
    def nodes(self) -> DataLoader[str, AnyRecord | None]:
        return self._loader(nodes.read_nodes)

    @cached_property
    def pages(self) -> DataLoader[Request[Any], Page[Any]]:
        return self._loader(lists.read_pages)

    @cached_property
    def counts(self) -> DataLoader[RowList[Any], int]:
        return self._loader(lists.count_lists)

    def _loader(self, read: Callable[[Connection, Sequence[Key]], list[Found]]) -> DataLoader[Key, Found]:
        database = self._database

        async def load(keys: list[Key]) -> list[Found]:
            return await database.read(lambda connection: read(connection, keys))

        # Gathers, but remembers nothing: the context of a subscription lives for as long as its stream.
        return DataLoader(load_fn=load, cache=False)


class Server(Protocol):
    """The server that answers, as `server` in a query tells of it."""

    @property
    def version(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def started_at(self) -> str: ...


@dataclass(slots=True)
class Context:
    """What the fields of one operation share."""

    database: Database
    dispatcher: Dispatcher
    feed: StateFeed
    writes: BoundedWrites
    server: Server
    loaders: Loaders
    limits: Limits = DEFAULT.limits
    """How much one field may be asked for."""
    caller: Caller | None = None
    """Who asks; None where nobody needs a token."""
    connection_params: object = None
    """What a WebSocket client sent when it opened the connection."""
    peer: Peer = field(default_factory=Peer)
    """Who is at the other end of the WebSocket."""
    selections: Selections | None = None
    """What the operation selects, where plain data is completed by functions written for it."""
    deadline: Deadline | None = None
    """When a query or mutation is given up; None in a subscription, which has no end of its own."""

    def allow_more_time(self, seconds: float) -> None:
        """Let this operation take so much longer: for a field that waits on purpose, as for something to happen."""
        if self.deadline is not None:
            self.deadline.extend(seconds)

    @classmethod
    def of(
        cls,
        database: Database,
        dispatcher: Dispatcher,
        feed: StateFeed,
        writes: BoundedWrites,
        server: Server,
        limits: Limits = DEFAULT.limits,
    ) -> "Context":
        return cls(database, dispatcher, feed, writes, server, Loaders(database), limits)

    def for_caller(self, caller: Caller) -> "Context":
        """The same for whoever has come with a token."""
        return replace(self, caller=caller)

    def for_socket(self) -> "Context":
        """The same for one WebSocket, with a peer of its own."""
        return replace(self, peer=Peer())

    def for_operation(self) -> "Context":
        """The same with loaders of its own: a WebSocket's context outlives its operations, what they loaded must not."""
        return Context(
            self.database,
            self.dispatcher,
            self.feed,
            self.writes,
            self.server,
            Loaders(self.database),
            self.limits,
            self.caller,
            self.connection_params,
            self.peer,
        )


Info = strawberry.Info[Context, None]
