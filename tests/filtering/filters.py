"""Hypothesis strategies for filters of every shape over the values of a population."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from db.enums import StateType
from db.records import to_json
from tests.builders.ids import UNKNOWN_ID
from tests.builders.population import (
    COUNTS,
    KEYS,
    MEMBER_NAMES,
    MEMBERS,
    MESSAGES,
    NAMES,
    SECONDS,
    TAGS,
    TIMESTAMPS,
    WORKERS,
    Population,
)

FilterStrategy = SearchStrategy[dict[str, Any]]


@cache
def task_run_filters(population: Population) -> FilterStrategy:
    fields = {
        "id": ids([*population.task_runs]),
        "name": strings(NAMES),
        "task_key": strings(KEYS),
        "tags": tags(),
        "state": states(),
        "start_time": timestamps(),
        "end_time": timestamps(),
        "expected_start_time": timestamps(),
        "next_scheduled_start_time": timestamps(),
        "state_timestamp": timestamps(),
        "created_at": timestamps(),
        "run_count": numbers(COUNTS),
        "total_run_time_seconds": numbers(SECONDS),
        "dynamic_key": strings(["1", "5", "1000", "1007"]),
        "worker_name": strings(WORKERS),
        "state_message": strings(MESSAGES),
        "metadata": members(),
        "flow_run_id": ids([*population.flow_runs]),
        "has_child_flow_run": st.booleans(),
        "flow_run": st.deferred(lambda: flow_run_filters(population)),
    }
    return combined(fields)


@cache
def flow_run_filters(population: Population) -> FilterStrategy:
    fields = {
        "id": ids([*population.flow_runs]),
        "name": strings(NAMES),
        "tags": tags(),
        "deployment_id": ids([*population.deployments]),
        "work_queue_name": strings(["q1", "Q1", "q_2"]),
        "state": states(),
        "flow_version": strings(["v1", "V1"]),
        "start_time": timestamps(),
        "expected_start_time": timestamps(),
        "next_scheduled_start_time": timestamps(),
        "parent_flow_run_id": ids([*population.flow_runs]),
        "parent_task_run_id": ids([each.parent_task_run_id or UNKNOWN_ID for each in population.flow_runs.values()]),
        "idempotency_key": strings(["i1", "i2", "I3"]),
        "flow": flow_filters(population),
        "deployment": deployment_filters(population),
    }
    return combined(fields)


@cache
def flow_filters(population: Population) -> FilterStrategy:
    fields = {"id": ids([*population.flows]), "name": strings(NAMES), "tags": tags(), "has_deployment": st.booleans()}
    return combined(fields)


@cache
def deployment_filters(population: Population) -> FilterStrategy:
    fields = {
        "id": ids([*population.deployments]),
        "name": strings(NAMES),
        "tags": tags(),
        "work_queue_name": strings(["q1", "Q2"]),
        "is_schedule_active": st.booleans(),
    }
    return combined(fields)


def combined(fields: dict[str, SearchStrategy[Any]]) -> FilterStrategy:
    """Return filters on up to two of the fields, alone and combined with `and`, `or` and `not`."""
    flat = st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )

    def combine(inner: FilterStrategy) -> FilterStrategy:
        combinators = {
            "and": st.lists(inner, max_size=3),
            "or": st.lists(inner, max_size=3),
            "not": inner,
        }
        return st.tuples(
            flat, st.fixed_dictionaries({}, optional={name: st.none() | each for name, each in combinators.items()})
        ).map(lambda parts: {**parts[0], **parts[1]})

    return st.recursive(flat, combine, max_leaves=4)


def ids(known: Sequence[str]) -> FilterStrategy:
    return operators(values=st.sampled_from([*known, UNKNOWN_ID]))


def strings(known: Sequence[str]) -> FilterStrategy:
    parts = st.sampled_from(known).flatmap(
        lambda text: st.sampled_from([text, text[:1], text[:2], text.upper(), text.lower()])
    )
    odd = st.sampled_from(["", "%", "_", "a", "\\", "é", "\U0010ffff"])
    return operators(values=st.sampled_from(known), contains=parts | odd, starts_with=parts | odd)


def states() -> FilterStrategy:
    types = operators(values=st.sampled_from(list(StateType)[:4]))
    return st.fixed_dictionaries({}, optional={"type": types, "name": strings(["Late", "Scheduled", "Running"])})


def tags() -> FilterStrategy:
    lists = st.lists(st.sampled_from(TAGS), max_size=3)
    return st.fixed_dictionaries({}, optional={"all": lists, "any": lists, "is_empty": st.booleans()})


def timestamps() -> FilterStrategy:
    timestamp = st.sampled_from(TIMESTAMPS)
    return st.fixed_dictionaries({}, optional={"after": timestamp, "before": timestamp, "is_null": st.booleans()})


def numbers(known: Sequence[float]) -> FilterStrategy:
    number = st.sampled_from([*known, 0.75, -1])
    return st.fixed_dictionaries({}, optional={"at_least": number, "at_most": number})


def members() -> FilterStrategy:
    scalars = [each for each in MEMBERS if not isinstance(each, list | dict)]
    wanted = st.dictionaries(st.sampled_from(MEMBER_NAMES), st.sampled_from(scalars), max_size=2)
    return st.fixed_dictionaries({"contains": wanted.map(to_json)})


def operators(values: SearchStrategy[Any], **more: SearchStrategy[Any]) -> FilterStrategy:
    lists = st.lists(values, max_size=4)
    return st.fixed_dictionaries({}, optional={"in": lists, "not_in": lists, "is_null": st.booleans(), **more})
