"""What the transitions of a batch contribute to the metrics: the waits of runs that start, and the runs that end."""

from dataclasses import dataclass, field

from db.connection import Connection, TaskRunEnd, TaskRunsMeasured
from db.enums import TERMINAL, StateType
from db.records import StateRecord, TaskRunRecord


@dataclass(slots=True)
class RunMeasurements:
    """Starts and ends of task runs. `write` publishes them after the commit, to this server only."""

    wait_seconds: list[float] = field(default_factory=list[float])
    ends: list[TaskRunEnd] = field(default_factory=list[TaskRunEnd])

    def record(self, run: TaskRunRecord, state: StateRecord, previous: StateType | None, *, had_started: bool) -> None:
        """Record that `run` has entered `state`. A run counts as started once, and as ended once until it is rerun."""
        if state.type is StateType.RUNNING and not had_started:
            self.wait_seconds.append(run.start_delay_seconds or 0.0)
        if state.type in TERMINAL and previous not in TERMINAL:
            run_seconds = None if run.start_time is None else run.total_run_time_seconds
            self.ends.append(TaskRunEnd(run.task_key, state.type, run_seconds))

    def write(self, connection: Connection) -> None:
        if self.wait_seconds or self.ends:
            connection.notify([TaskRunsMeasured(tuple(self.wait_seconds), tuple(self.ends))])
