"""The goals of the client, and the figures that are compared with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measuring import Measures


@dataclass(frozen=True, slots=True)
class Mark:
    """A goal: the sum of some figures of one system is at most `goal`."""

    title: str
    system: str
    figures: Sequence[str]
    goal: float

    def value_of(self, results: Mapping[str, Measures]) -> float | None:
        """Return the sum, or None if a figure was not measured. Figures that do not apply count as 0."""
        measures = results.get(self.system, {})
        if not all(figure in measures for figure in self.figures):
            return None
        return sum(measures[figure] or 0.0 for figure in self.figures)


WORKER = ("burst_parent_ms", "burst_children_ms")
ALL = (*WORKER, "burst_server_ms", "burst_database_ms")
IDLE = "idle"
"""Name of the idle worker among the results."""

MARKS = (
    Mark("worker CPU ms a run in a burst, --processes 0", "sqlite-0", WORKER, 0.25),
    Mark("the same, --processes 1: parent + child", "sqlite-1", WORKER, 0.35),
    Mark("worker + server CPU ms a run, SQLite, --processes 1", "sqlite-1", ALL, 1.0),
    Mark("worker + server + database CPU ms a run, PostgreSQL, --processes 1", "postgresql-1", ALL, 1.6),
    Mark("paced p50 ms, SQLite", "sqlite-1", ("paced_p50_ms",), 6),
    Mark("paced p95 ms, SQLite", "sqlite-1", ("paced_p95_ms",), 15),
    Mark("end of a run to result(), p50 ms, SQLite", "sqlite-1", ("result_p50_ms",), 5),
    Mark("SIGKILL of a child to FAILED, ms", "sqlite-1", ("child_killed_ms",), 1000),
    Mark("idle worker: requests a minute", IDLE, ("idle_requests_per_minute",), 4),
    Mark("idle worker: CPU, percent", IDLE, ("idle_cpu_percent",), 0.1),
    Mark("import of runyard_client, ms", "sqlite-1", ("import_ms",), 150),
    Mark("memory of an idle worker, parent, MiB", IDLE, ("idle_parent_mib",), 40),
    Mark("memory of an idle worker, child, MiB", IDLE, ("idle_child_mib",), 35),
)
