"""GraphQL types and arguments of the task run history."""

from typing import Annotated

import strawberry

from schema.enums import StateType
from schema.scalars import DateTime


@strawberry.type(
    description="Statistics of the task runs of one interval whose current states have the same type and name."
)
class RunHistoryState:
    state_type: StateType = strawberry.field(description="Type of the current state.")
    state_name: str = strawberry.field(description="Name of the current state.")
    count_runs: int = strawberry.field(description="Number of task runs.")
    sum_estimated_run_time_seconds: float = strawberry.field(
        description="Sum of the times spent RUNNING, in seconds. For runs that are RUNNING, includes the current state "
        "up to now."
    )
    sum_estimated_lateness_seconds: float = strawberry.field(
        description="Sum of the delays between the expected and the actual starts, in seconds. For runs that have not "
        "started, the delay so far. Runs that started early or ended without starting count as 0."
    )


@strawberry.type(description="Interval of the task run history, with the runs that were expected to start in it.")
class RunHistoryInterval:
    start: DateTime = strawberry.field(description="Start of the interval, inclusive.")
    end: DateTime = strawberry.field(description="End of the interval, exclusive.")
    states: list[RunHistoryState] = strawberry.field(
        description="Statistics for each type and name of state, sorted by type and then by name. Empty when the "
        "interval has no runs."
    )


HistoryStartArgument = Annotated[DateTime, strawberry.argument(description="Start of the first interval, inclusive.")]
HistoryEndArgument = Annotated[
    DateTime,
    strawberry.argument(
        description="Time before which all intervals start; the last one may end after it. The result is empty when "
        "`end` is not later than `start`."
    ),
]
IntervalSecondsArgument = Annotated[
    float,
    strawberry.argument(
        description="Length of each interval in seconds, rounded to microseconds. Must be at least 1, and long enough to "
        "reach `end` with at most 500 intervals."
    ),
]
