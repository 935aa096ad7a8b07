"""What the replay asks of a server under test, whatever language that one speaks.

Inputs are concrete: ids are those that the server gave out (or a random UUID for what was never made), instants are
RFC 3339 texts. Runs and states come back as dictionaries with the field names of the recordings, e.g. `total_run_time`.
"""

from typing import Any, Protocol

Record = dict[str, Any]


class Refused(Exception):
    """The server refused the operation: `validation`, `not_found` or `conflict`."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Unsupported(Exception):
    """The server has no such operation yet; the step is skipped, and counted."""


class Adapter(Protocol):
    """One method for each operation that has an answer of its own."""

    async def create_flow(self, body: Record) -> str: ...

    async def create_deployment(self, body: Record) -> str: ...

    async def create_flow_run(self, body: Record) -> tuple[Record, bool]:
        """The flow run, and whether it was made."""
        ...

    async def read_flow_run(self, id: str) -> Record: ...

    async def delete_flow_run(self, id: str) -> None: ...

    async def set_flow_run_state(self, id: str, state: Any, force: Any) -> Record:
        """`status`, `state`, `delay_seconds`, and `created`: whether a state was written."""
        ...

    async def create_task_run(self, body: Record) -> tuple[Record, bool]:
        """The task run, and whether it was made."""
        ...

    async def read_task_run(self, id: str) -> Record: ...

    async def update_task_run(self, id: str, body: Record) -> None: ...

    async def delete_task_run(self, id: str) -> None: ...

    async def set_task_run_state(self, id: str, state: Any, force: Any) -> Record:
        """As for a flow run."""
        ...

    async def list_task_run_states(self, id: str) -> list[Record]:
        """Oldest first; empty for a run that is not there."""
        ...

    async def filter_task_runs(self, body: Record) -> list[Record]:
        """The runs of one page."""
        ...

    async def count_task_runs(self, body: Record) -> int: ...

    async def task_run_history(self, body: Record) -> list[Record]:
        """Buckets in order, each with `start`, `end` and `states`: `stateType`, `stateName`, `countRuns`, and the sums of
        `sumEstimatedRunTimeSeconds` and `sumEstimatedLatenessSeconds`."""
        ...

    async def create_concurrency_limit(self, tag: Any, limit: Any) -> Record:
        """`limit`, and `active`: the ids of the runs that hold its slots."""
        ...

    async def read_concurrency_limit(self, tag: str) -> Record: ...

    async def reset_concurrency_limit(self, tag: str) -> None: ...

    async def delete_concurrency_limit(self, tag: str) -> None: ...

    async def subscribe(self, keys: list[str]) -> Any:
        """A handle on a subscription to the runs of these keys."""
        ...

    async def receive(self, handle: Any, most: int, patience: float) -> list[str]:
        """Ids of up to `most` delivered runs, each acknowledged, until none comes for `patience` seconds."""
        ...

    async def unsubscribe(self, handle: Any) -> None: ...
