"""The context that all workloads of a database share, and the kind of workload that reads."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Client, Request, request

MAX_SECONDS = 6.0
"""Maximum time of a round of a read workload and of its comparison, however few operations are complete by then."""


@dataclass
class WorkloadContext:
    """Everything that the workloads of one database share."""

    client: Client
    flow_run_id: str
    """A flow run that is RUNNING."""
    task_run_id: str
    """A task run that has ended, in a flow run."""
    fields: frozenset[str]
    """The root fields of queries."""
    scale: float = 1.0
    """Factor for the number of operations in a round."""
    figures: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Other measurements by name, with one value for each round."""

    def count(self, operations: int) -> int:
        return max(2, int(operations * self.scale))

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)


@dataclass
class ReadWorkload:
    """The same query, repeated."""

    name: str
    title: str
    query: str
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    operations: int = 60
    needs: str = ""
    """The root field that the schema must have. Empty when none is required."""
    by_id: bool = False

    def variables_for(self, context: WorkloadContext) -> dict[str, Any]:
        return {**self.variables, "id": context.task_run_id} if self.by_id else self.variables

    def is_possible(self, context: WorkloadContext) -> bool:
        return not self.needs or self.needs in context.fields

    def request_for(self, context: WorkloadContext) -> Request:
        return request(self.query, **self.variables_for(context))
