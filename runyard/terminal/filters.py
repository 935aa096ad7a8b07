"""Filters for task runs from options."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from db.enums import StateType
from runyard.durations import parse_duration


def build_filter(
    *,
    ids: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    min_created_at: datetime | None = None,
) -> dict[str, Any]:
    """Return a TaskRunFilter whose conditions are combined with AND; an empty one without conditions."""
    filter: dict[str, Any] = {}
    if ids:
        filter["id"] = {"in": list(ids)}
    if states:
        filter |= _state_condition(states)
    if keys:
        filter["taskKey"] = {"in": list(keys)}
    if tags:
        filter["tags"] = {"all": list(tags)}
    if min_created_at is not None:
        filter["createdAt"] = {"after": min_created_at.isoformat()}
    return filter


def parse_since(text: str | None) -> datetime | None:
    """Return the time that is this duration ago, by the clock of this machine; None without a duration."""
    return None if text is None else datetime.now(UTC) - parse_age(text, "--since")


def parse_age(text: str, option: str) -> timedelta:
    """Parse a duration. Raises typer.BadParameter that names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _state_condition(states: Sequence[str]) -> dict[str, Any]:
    """Return a condition that matches any of these types and names. A type may be in lower case."""
    types = [each.upper() for each in states if each.upper() in set(StateType)]
    names = [each for each in states if each.upper() not in set(StateType)]
    conditions = [{"type": {"in": types}}] if types else []
    conditions += [{"name": {"in": names}}] if names else []
    if len(conditions) == 1:
        return {"state": conditions[0]}
    return {"or": [{"state": condition} for condition in conditions]}
