"""What all workloads of a database share; and the kind of workload that reads."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Client, Request, request

MOST_SECONDS = 6.0
"""A round of a reading workload and of the same beside it ends after this time, however few operations it has done."""


@dataclass
class Stage:
    """What the workloads of one database share."""

    client: Client
    flow_run_id: str
    """A flow run that is RUNNING."""
    task_run_id: str
    """A task run with a whole history, in a flow run."""
    fields: frozenset[str]
    """The fields that a query may begin with."""
    scale: float = 1.0
    """How much of each workload's operations a round has."""
    figures: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """What else the workloads found, by name; one value a round."""

    def count(self, operations: int) -> int:
        return max(2, int(operations * self.scale))

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)


@dataclass
class Reading:
    """The same query again and again."""

    name: str
    title: str
    query: str
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    operations: int = 60
    needs: str = ""
    """The field that the schema has to have."""
    by_id: bool = False

    def variables_for(self, stage: Stage) -> dict[str, Any]:
        return {**self.variables, "id": stage.task_run_id} if self.by_id else self.variables

    def is_possible(self, stage: Stage) -> bool:
        return not self.needs or self.needs in stage.fields

    def request_for(self, stage: Stage) -> Request:
        return request(self.query, **self.variables_for(stage))
