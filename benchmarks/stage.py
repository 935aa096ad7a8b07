"""What a workload is, and what all workloads of a database share; and the kind that reads."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.client import Client, request

MOST_SECONDS = 3.0
"""A round of a reading workload ends after this time, however few operations it has done."""


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


class Workload(Protocol):
    """Something that is done many times."""

    name: str
    title: str

    def is_possible(self, stage: Stage) -> bool: ...

    async def prepare(self, stage: Stage) -> None:
        """What has to be there; not measured."""
        ...

    async def run(self, stage: Stage) -> int:
        """Do it; how many times it was done."""
        ...

    async def clean(self, stage: Stage) -> None:
        """Take away what it left; not measured."""
        ...


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

    async def prepare(self, stage: Stage) -> None:
        self._request = request(self.query, **self.variables_for(stage))
        await stage.client.send(self._request)

    async def run(self, stage: Stage) -> int:
        began, wanted = time.perf_counter(), stage.count(self.operations)
        for number in range(wanted):
            await stage.client.send(self._request)
            if time.perf_counter() - began > MOST_SECONDS:
                return number + 1
        return wanted

    async def clean(self, stage: Stage) -> None:
        """Nothing was left."""
