"""A result that a failure left behind is not passed off as that of a success."""

from dataclasses import replace
from typing import Any

import orjson

from db.enums import StateType
from db.records import to_json
from resolvers.orchestration.transition import Amend, Transition, Verdict, rule

UNKNOWN_RESULT = to_json({"type": "unknown", "value": None})


@rule(leaving={StateType.FAILED, StateType.CRASHED}, entering={StateType.COMPLETED})
def mark_unknown_results(transition: Transition) -> Verdict | None:
    """Let a run that is forced from failure to COMPLETED have an unknown result, where the failure refers to one."""
    current = transition.current
    data: Any = orjson.loads(current.data) if current is not None and current.data is not None else None
    if not isinstance(data, dict) or data.get("type") != "reference":  # pyright: ignore[reportUnknownMemberType]
        return None
    return Amend(replace(transition.proposed, data=UNKNOWN_RESULT))
