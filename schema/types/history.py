"""GraphQL types and arguments of the task run history."""

from typing import Annotated

import strawberry

from schema.enums import StateType
from schema.scalars import DateTime


@strawberry.type(description="Task runs of one interval that are in states of one type and name.")
class RunHistoryState:
    state_type: StateType = strawberry.field(description="The type of the state that they are in now.")
    state_name: str = strawberry.field(description="The name of the state that they are in now.")
    count_runs: int = strawberry.field(description="How many they are.")
    sum_estimated_run_time_seconds: float = strawberry.field(
        description="The time that each has spent RUNNING, up to now, in sum."
    )
    sum_estimated_lateness_seconds: float = strawberry.field(
        description="How late each started, or how late it is while it has not started and may still do so, in sum. "
        "Nothing is subtracted for runs that started early."
    )


@strawberry.type(description="An interval of time, and what has become of the runs that were meant to start in it.")
class RunHistoryInterval:
    start: DateTime = strawberry.field(description="When it begins: a run that was meant to start then is in it.")
    end: DateTime = strawberry.field(description="When the next one begins: a run that was meant to start then is not.")
    states: list[RunHistoryState] = strawberry.field(
        description="One item for each type and name of state, in the order of types, then names; none where no run "
        "was meant to start in the interval."
    )


HistoryStartArgument = Annotated[DateTime, strawberry.argument(description="When the first interval begins.")]
HistoryEndArgument = Annotated[
    DateTime,
    strawberry.argument(
        description="Intervals begin before this; the last one may end after it. "
        "Not later than `start`, there are none."
    ),
]
IntervalSecondsArgument = Annotated[
    float,
    strawberry.argument(
        description="How long each interval is: at least 1 second, counted in whole microseconds, and long enough for "
        "500 of them to reach `end`."
    ),
]
