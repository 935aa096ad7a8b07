"""GraphQL enums: enums of the resolvers and the database, with descriptions. GraphQL types import them from here."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from db.enums import FlowRunSort, StateType, TaskRunSort
from resolvers.delivery.leases import LeaseStatus
from resolvers.orchestration.transition import OrchestrationStatus

__all__ = ["FlowRunSort", "LeaseStatus", "OrchestrationStatus", "StateType", "TaskRunSort"]

EnumType = TypeVar("EnumType", bound=type[Enum])


def _define_enum(enum_class: EnumType, description: str, values: Mapping[str, str]) -> EnumType:
    """Make `enum_class` a GraphQL enum with a description for each value."""
    decorated: Any = strawberry.enum(enum_class, description=description)
    definition: StrawberryEnumDefinition = decorated.__strawberry_definition__
    for value in definition.values:
        value.description = values[value.name]
    return decorated


_define_enum(
    StateType,
    "What kind of state a run is in. COMPLETED, FAILED, CANCELLED and CRASHED end a run.",
    {
        "SCHEDULED": "It is to run at a time, now or later. A background run in this state is queued for workers.",
        "PENDING": "A worker has claimed it and prepares to run it.",
        "RUNNING": "It is being carried out.",
        "COMPLETED": "It ended well.",
        "FAILED": "Its own code ended in an error.",
        "CANCELLED": "It was called off and has stopped.",
        "CRASHED": "It was ended from outside: its process or machine is gone.",
        "PAUSED": "It waits for somebody to let it go on.",
        "CANCELLING": "It was called off and is still stopping. Its worker is to stop it and then set CANCELLED.",
    },
)
_define_enum(
    OrchestrationStatus,
    "What the rules made of a proposed state.",
    {
        "ACCEPT": "The run took the proposed state, perhaps with another name or with fields filled in.",
        "REJECT": "The run took another state instead, or kept the one it has: look at `created` and `state`.",
        "ABORT": "Nothing was changed, and the caller should stop working on the run.",
        "WAIT": "Nothing was changed: ask again after `delaySeconds`.",
    },
)
_define_enum(
    LeaseStatus,
    "Whether a lease is still the caller's.",
    {
        "HELD": "It is held, and what was asked has been done.",
        "LOST": "It ran out, was given back, has ended, or never was: stop working on the run and write nothing.",
    },
)

_SORT_DESCRIPTIONS = {
    "ID_DESC": "The latest created first.",
    "EXPECTED_START_TIME_ASC": "By when it was first meant to start, the earliest first.",
    "EXPECTED_START_TIME_DESC": "By when it was first meant to start, the latest first.",
    "NAME_ASC": "By name, character by character as Unicode numbers them: capitals before small letters.",
    "NAME_DESC": "By name, the other way round.",
    "NEXT_SCHEDULED_START_TIME_ASC": "By when it is due, the earliest first; what is not SCHEDULED comes before all.",
    "END_TIME_DESC": "By when it ended, the latest first; what has not ended comes last.",
    "START_TIME_ASC": "By when it started, the earliest first; what has not started comes before all.",
    "START_TIME_DESC": "By when it started, the latest first; what has not started comes last.",
    "CREATED_ASC": "By when it was created, the earliest first.",
    "CREATED_DESC": "By when it was created, the latest first.",
}
_define_enum(
    TaskRunSort,
    "What a list of task runs goes by. Among equals the id decides, in the same direction.",
    _SORT_DESCRIPTIONS,
)
_define_enum(
    FlowRunSort,
    "What a list of flow runs goes by. Among equals the id decides, in the same direction.",
    _SORT_DESCRIPTIONS,
)
