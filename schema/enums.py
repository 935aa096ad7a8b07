"""The enums of the API: the enumerations that the resolvers use, described. Types take them from here."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from db.vocabulary import StateType
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.queue.leases import LeaseStatus

__all__ = ["LeaseStatus", "OrchestrationStatus", "StateType"]

Kind = TypeVar("Kind", bound=type[Enum])


def _describe(kind: Kind, description: str, values: Mapping[str, str]) -> Kind:
    """Make `kind` a GraphQL enum, with a description for each of its values."""
    described: Any = strawberry.enum(kind, description=description)
    definition: StrawberryEnumDefinition = described.__strawberry_definition__
    for value in definition.values:
        value.description = values[value.name]
    return described


_describe(
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
_describe(
    OrchestrationStatus,
    "What the rules made of a proposed state.",
    {
        "ACCEPT": "The run took the proposed state, perhaps with another name or with fields filled in.",
        "REJECT": "The run took another state instead, or kept the one it has: look at `created` and `state`.",
        "ABORT": "Nothing was changed, and the caller should stop working on the run.",
        "WAIT": "Nothing was changed: ask again after `delaySeconds`.",
    },
)
_describe(
    LeaseStatus,
    "Whether a lease is still the caller's.",
    {
        "HELD": "It is held, and what was asked has been done.",
        "LOST": "It ran out, was given back, has ended, or never was: stop working on the run and write nothing.",
    },
)
