"""The interface of a server under test, independent of its API.

Inputs are concrete: ids are those of the server (or a random UUID for an entity that does not exist), and timestamps are
RFC 3339 strings. Runs and states are dictionaries with the field names of the recordings, such as `total_run_time`.
"""

from typing import Any, Protocol

Record = dict[str, Any]


class Refused(Exception):
    """The server refused the operation: `validation`, `not_found` or `conflict`."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Unsupported(Exception):
    """The server does not support the operation. The step is skipped and counted."""


class Adapter(Protocol):
    """One method for each operation of the recordings."""

    async def create_flow(self, body: Record) -> str: ...

    async def create_deployment(self, body: Record) -> str: ...

    async def create_flow_run(self, body: Record) -> tuple[Record, bool]:
        """Return the flow run and whether it was created."""
        ...

    async def read_flow_run(self, id: str) -> Record: ...

    async def delete_flow_run(self, id: str) -> None: ...

    async def set_flow_run_state(self, id: str, state: Any, force: Any) -> Record:
        """Return `status`, `state`, `delay_seconds` and `created` (whether a state was written)."""
        ...

    async def create_task_run(self, body: Record) -> tuple[Record, bool]:
        """Return the task run and whether it was created."""
        ...

    async def read_task_run(self, id: str) -> Record: ...

    async def update_task_run(self, id: str, body: Record) -> None: ...

    async def delete_task_run(self, id: str) -> None: ...

    async def set_task_run_state(self, id: str, state: Any, force: Any) -> Record:
        """Return the same fields as `set_flow_run_state`."""
        ...

    async def list_task_run_states(self, id: str) -> list[Record]:
        """Return the states, oldest first; an empty list if the run does not exist."""
        ...

    async def filter_task_runs(self, body: Record) -> list[Record]:
        """Return the runs of one page."""
        ...

    async def count_task_runs(self, body: Record) -> int: ...

    async def task_run_history(self, body: Record) -> list[Record]:
        """Return the buckets in order, each with `start`, `end` and `states`.

        Each state has `stateType`, `stateName`, `countRuns`, `sumEstimatedRunTimeSeconds` and
        `sumEstimatedLatenessSeconds`.
        """
        ...

    async def create_concurrency_limit(self, tag: Any, limit: Any) -> Record:
        """Return `limit` and `active`: the ids of the runs that hold its slots."""
        ...

    async def read_concurrency_limit(self, tag: str) -> Record: ...

    async def reset_concurrency_limit(self, tag: str) -> None: ...

    async def delete_concurrency_limit(self, tag: str) -> None: ...

    async def subscribe(self, keys: list[str]) -> Any:
        """Subscribe to the runs of these keys and return a handle."""
        ...

    async def receive(self, handle: Any, limit: int, timeout_seconds: float) -> list[str]:
        """Receive and acknowledge up to `limit` runs, until none arrives for `timeout_seconds`, and return their ids."""
        ...

    async def unsubscribe(self, handle: Any) -> None: ...
