"""Checks that conditions without an index apply to few rows: beside them, a filter selects task keys or a time range."""

from collections.abc import Mapping, Sequence
from typing import Any

from resolvers.errors import BadInput
from resolvers.lists import Filter
from schema.naming import to_camel_case

_UNINDEXED = ("state_message", "metadata")
"""Conditions that read a long column of each row."""

_TIMES = (
    "start_time",
    "end_time",
    "expected_start_time",
    "next_scheduled_start_time",
    "state_timestamp",
    "created_at",
)


def require_bounds(path: str, filter: Filter) -> None:
    """Check a filter for task runs, given as plain values. Raises BadInput with the path of a condition without bounds.

    A condition is bounded by those that are combined with it by AND, in its own filter or in one that contains it.
    """
    _check(path, filter, is_bounded=False)


def _check(path: str, filter: Filter, *, is_bounded: bool, is_negated: bool = False) -> None:
    # Within `not`, the conditions beside another one bound nothing: runs that do not meet them match as well.
    is_bounded = is_bounded or (not is_negated and _is_bounded(filter))
    for name in _UNINDEXED:
        if not is_bounded and filter.get(name) is not None:
            raise BadInput(
                f"{path}.{to_camel_case(name)}",
                "requires a condition on `taskKey` (`in` or `startsWith`) or a time range beside it, such as "
                "`createdAt: {after: …}`.",
            )
    for name in ("and", "or"):
        for index, each in enumerate(_filters_of(filter, name)):
            _check(f"{path}.{name}.{index}", each, is_bounded=is_bounded, is_negated=is_negated)
    if (negated := filter.get("not")) is not None:
        _check(f"{path}.not", negated, is_bounded=is_bounded, is_negated=True)


def _is_bounded(filter: Filter) -> bool:
    """Return whether the filter matches only runs of certain task keys, or within a time range."""
    key: Mapping[str, Any] = filter.get("task_key") or {}
    if key.get("in") is not None or key.get("starts_with"):
        return True
    times: list[Mapping[str, Any]] = [filter[name] for name in _TIMES if filter.get(name) is not None]
    if any(each.get("after") is not None or each.get("before") is not None for each in times):
        return True
    alternatives = _filters_of(filter, "or")
    return any(map(_is_bounded, _filters_of(filter, "and"))) or (
        bool(alternatives) and all(map(_is_bounded, alternatives))
    )


def _filters_of(filter: Filter, name: str) -> Sequence[Filter]:
    return filter.get(name) or ()
