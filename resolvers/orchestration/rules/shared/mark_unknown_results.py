"""The result of a run that is forced from failure to COMPLETED."""

from dataclasses import replace
from typing import Any

import orjson

from db.enums import StateType
from db.records import to_json
from resolvers.orchestration.transition import Amend, Transition, Verdict, rule

UNKNOWN_RESULT = to_json({"type": "unknown", "value": None})


@rule(leaving={StateType.FAILED, StateType.CRASHED}, entering={StateType.COMPLETED})
def mark_unknown_results(transition: Transition) -> Verdict | None:
    """Replace the result with an unknown one if the data of the failure is a reference.

    The reference is to the result of the failure, which must not become the result of the COMPLETED state.
    """
    current = transition.current
    data: Any = orjson.loads(current.data) if current is not None and current.data is not None else None
    if not isinstance(data, dict) or data.get("type") != "reference":  # pyright: ignore[reportUnknownMemberType]
        return None
    return Amend(replace(transition.proposed, data=UNKNOWN_RESULT))
