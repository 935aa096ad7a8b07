"""Filters of every shape, made up by Hypothesis over the values of a population."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as some
from hypothesis.strategies import SearchStrategy

from db.enums import StateType
from tests.builders.population import KEYS, MOMENTS, NAMES, TAGS, Population

AnyFilter = SearchStrategy[dict[str, Any]]

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


def task_run_filters(all: Population) -> AnyFilter:
    fields = {
        "id": ids([*all.task_runs]),
        "name": texts(NAMES),
        "task_key": texts(KEYS),
        "tags": tags(),
        "state": states(),
        "start_time": moments(),
        "end_time": moments(),
        "expected_start_time": moments(),
        "created": moments(),
        "flow_run_id": ids([*all.flow_runs]),
        "has_child_flow_run": some.booleans(),
        "flow_run": some.deferred(lambda: flow_run_filters(all)),
    }
    return nested(fields)


def flow_run_filters(all: Population) -> AnyFilter:
    fields = {
        "id": ids([*all.flow_runs]),
        "name": texts(NAMES),
        "tags": tags(),
        "deployment_id": ids([*all.deployments]),
        "work_queue_name": texts(["q1", "Q1", "q_2"]),
        "state": states(),
        "flow_version": texts(["v1", "V1"]),
        "start_time": moments(),
        "expected_start_time": moments(),
        "next_scheduled_start_time": moments(),
        "parent_flow_run_id": ids([*all.flow_runs]),
        "parent_task_run_id": ids([each.parent_task_run_id or NOWHERE for each in all.flow_runs.values()]),
        "idempotency_key": texts(["i1", "i2", "I3"]),
        "flow": flow_filters(all),
        "deployment": deployment_filters(all),
    }
    return nested(fields)


def flow_filters(all: Population) -> AnyFilter:
    fields = {"id": ids([*all.flows]), "name": texts(NAMES), "tags": tags(), "has_deployment": some.booleans()}
    return nested(fields)


def deployment_filters(all: Population) -> AnyFilter:
    fields = {
        "id": ids([*all.deployments]),
        "name": texts(NAMES),
        "tags": tags(),
        "work_queue_name": texts(["q1", "Q2"]),
        "is_schedule_active": some.booleans(),
    }
    return nested(fields)


def nested(fields: dict[str, SearchStrategy[Any]]) -> AnyFilter:
    """Filters with up to two of the fields, and such filters joined by and, or, not."""
    plain = some.lists(some.sampled_from(sorted(fields)), max_size=2, unique=True).flatmap(
        lambda names: some.fixed_dictionaries({name: fields[name] for name in names})
    )

    def joined(inner: AnyFilter) -> AnyFilter:
        joins = {
            "and": some.lists(inner, max_size=3),
            "or": some.lists(inner, max_size=3),
            "not": inner,
        }
        return some.tuples(
            plain, some.fixed_dictionaries({}, optional={name: some.none() | each for name, each in joins.items()})
        ).map(lambda parts: {**parts[0], **parts[1]})

    return some.recursive(plain, joined, max_leaves=4)


def ids(known: Sequence[str]) -> AnyFilter:
    return operators(values=some.sampled_from([*known, NOWHERE]))


def texts(known: Sequence[str]) -> AnyFilter:
    parts = some.sampled_from(known).flatmap(
        lambda text: some.sampled_from([text, text[:2], text.upper(), text.lower()])
    )
    return operators(values=some.sampled_from(known), like=parts | some.sampled_from("%_a\\é"))


def states() -> AnyFilter:
    types = operators(values=some.sampled_from(list(StateType)[:4]))
    return some.fixed_dictionaries({}, optional={"type": types, "name": texts(["Late", "Scheduled", "Running"])})


def tags() -> AnyFilter:
    lists = some.lists(some.sampled_from(TAGS), max_size=3)
    return some.fixed_dictionaries({}, optional={"all": lists, "any": lists, "is_empty": some.booleans()})


def moments() -> AnyFilter:
    moment = some.sampled_from(MOMENTS)
    return some.fixed_dictionaries({}, optional={"after": moment, "before": moment, "is_null": some.booleans()})


def operators(values: SearchStrategy[Any], **more: SearchStrategy[Any]) -> AnyFilter:
    lists = some.lists(values, max_size=4)
    return some.fixed_dictionaries({}, optional={"any": lists, "not_any": lists, "is_null": some.booleans(), **more})
