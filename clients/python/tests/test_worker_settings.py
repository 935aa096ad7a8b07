"""Settings of a worker, from arguments and the environment."""

from typing import Any

import pytest

from runyard_client.worker.coordinator.executor_pools import select_tasks
from runyard_client.worker.executors.executor_group import split_slots
from runyard_client.worker.settings import LIMITS, InvalidSetting, WorkerSettings


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = WorkerSettings.from_environment({})

    assert (settings.concurrency, settings.processes, settings.drain_seconds) == (20, 1, 25.0)
    assert (settings.lease_seconds, settings.default_lease_seconds) == (None, 60.0)
    assert (settings.refused_seconds, settings.claim_wait_seconds, settings.max_back_off_seconds) == (300.0, 30.0, 5.0)
    assert (settings.groups, settings.tasks, settings.except_) == ((), (), ())


def test_every_setting_is_a_variable_too() -> None:
    settings = WorkerSettings.from_environment(
        {
            "RUNYARD_WORKER_CONCURRENCY": "7",
            "RUNYARD_WORKER_LEASE_SECONDS": "2.5",
            "RUNYARD_WORKER_GROUPS": "mail, pdf,",
            "RUNYARD_WORKER_EXCEPT": "a,b",
            "RUNYARD_WORKER_ONCE": "true",
            "RUNYARD_WORKER_RECYCLE_RUNS": "1000",
            "RUNYARD_WORKER_NAME": "mill",
            "RUNYARD_WORKER_DRAIN_SECONDS": "",
        }
    )

    assert (settings.concurrency, settings.lease_seconds, settings.groups) == (7, 2.5, ("mail", "pdf"))
    assert (settings.except_, settings.once, settings.recycle_runs) == (("a", "b"), True, 1000)
    assert (settings.name, settings.drain_seconds) == ("mill", 25.0)


def test_arguments_take_precedence_over_the_environment() -> None:
    settings = WorkerSettings.from_environment(
        {"RUNYARD_WORKER_CONCURRENCY": "7", "RUNYARD_WORKER_PROCESSES": "3"}, concurrency=5, processes=None
    )

    assert (settings.concurrency, settings.processes) == (5, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"concurrency": 0}, "`concurrency` must be between 1 and 10,000; got 0."),
        ({"processes": -1}, "`processes` must be between 0 and 1,000; got -1."),
        ({"lease_seconds": 0.5}, "`lease_seconds` must be between 1 and 86,400.0; got 0.5."),
        ({"drain_seconds": float("nan")}, "`drain_seconds` must be between 0 and 86,400.0; got nan."),
        ({"log_format": "xml"}, "`log_format` must be one of auto, console, json; got 'xml'."),
        ({"name": ""}, "`name` must be a text that is not empty; got ''."),
        ({"health": "8080"}, "`health` must be HOST:PORT; got '8080'."),
    ],
)
def test_an_invalid_setting_is_named_with_its_value_and_limits(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        WorkerSettings(**values)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CONCURRENCY", "many", "an integer"),
        ("DRAIN_SECONDS", "soon", "a number"),
        ("UVLOOP", "maybe", "true or false"),
    ],
)
def test_an_invalid_variable_is_named(variable: str, value: str, expected: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        WorkerSettings.from_environment({f"RUNYARD_WORKER_{variable}": value})

    assert str(caught.value) == f"`RUNYARD_WORKER_{variable}` must be {expected}; got {value!r}."


def test_every_number_has_a_limit() -> None:
    numbers = {name for name, value in vars_of(WorkerSettings()).items() if isinstance(value, int | float)}

    assert numbers - {"uvloop", "once"} <= set(LIMITS)


def vars_of(settings: WorkerSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


@pytest.mark.parametrize(
    ("concurrency", "processes", "slots"), [(20, 1, [20]), (20, 3, [7, 7, 6]), (2, 4, [1, 1, 1, 1])]
)
def test_slots_are_divided_among_the_processes(concurrency: int, processes: int, slots: list[int]) -> None:
    assert split_slots(concurrency, processes) == slots


@pytest.mark.parametrize(
    ("groups", "keys", "excluded", "selected"),
    [
        ((), (), (), ["a", "b", "c"]),
        (("mail",), (), (), ["a", "b"]),
        ((), ("a", "c"), (), ["a", "c"]),
        (("mail",), ("a", "c"), (), ["a"]),
        ((), (), ("b",), ["a", "c"]),
        (("mail",), ("a",), ("a",), []),
    ],
)
def test_tasks_are_selected_by_group_and_key(
    groups: tuple[str, ...], keys: tuple[str, ...], excluded: tuple[str, ...], selected: list[str]
) -> None:
    tasks: Any = [{"key": "a", "group": "mail"}, {"key": "b", "group": "mail"}, {"key": "c", "group": "pdf"}]

    assert list(select_tasks(tasks, groups, keys, excluded)) == selected
