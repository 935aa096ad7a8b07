"""A run that waits was made by other code: what its parameters become, and what is refused, naming the parameter."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from runyard_client.context import Run, use_run
from runyard_client.errors import BadParameters
from runyard_client.tasks.decorator import task


@task
def send(to: str, subject: str = "Hello", *, at: date | None = None) -> None:
    """A task without variable parameters."""


@task
def log(level: int, /, *lines: str, level_name: str = "info", **labels: int) -> None:
    """A task with all kinds of parameters."""


@task
def untyped(value, other=None):
    """A task without annotations."""


def test_a_missing_parameter_has_the_default_of_the_new_code():
    assert send.read_parameters({"to": "ada"}) == (("ada", "Hello"), {})


def test_a_missing_parameter_in_the_middle_keeps_its_place():
    @task
    def made(first: int = 1, second: int = 2, third: int = 3) -> None: ...

    assert made.read_parameters({"third": 30}) == ((1, 2, 30), {})


def test_a_missing_parameter_without_a_default_is_refused():
    with pytest.raises(BadParameters, match=r"^to: is required and missing\.$") as caught:
        send.read_parameters({"subject": "x"})

    assert caught.value.parameter == "to"
    assert not send.is_retriable(caught.value)


def test_an_unknown_parameter_is_refused():
    with pytest.raises(BadParameters, match=r"^cc: the task has no such parameter\.$") as caught:
        send.read_parameters({"to": "ada", "cc": "bob"})

    assert caught.value.parameter == "cc"


def test_an_unknown_parameter_goes_to_the_keyword_arguments_if_there_are_any():
    assert log.read_parameters({"level": 1, "new": 2}) == ((1,), {"new": 2})


def test_keyword_arguments_are_read_by_their_annotation():
    with pytest.raises(BadParameters, match=r"^new: must be an integer; got a string\.$"):
        log.read_parameters({"level": 1, "new": "2"})


def test_a_value_that_the_annotation_refuses_is_refused_with_its_path():
    @dataclass
    class Page:
        title: str

    @task
    def render(pages: list[Page]) -> None: ...

    with pytest.raises(BadParameters, match=r"^pages\[1\]\.title: must be a string; got null\.$") as caught:
        render.read_parameters({"pages": [{"title": "a"}, {"title": None}]})

    assert caught.value.parameter == "pages[1].title"


@pytest.mark.parametrize("parameters", [[], "a", 3, [["ada"]]])
def test_parameters_that_are_no_object_are_refused(parameters):
    with pytest.raises(BadParameters, match="must be a JSON object"):
        send.read_parameters(parameters)


def test_no_parameters_are_the_defaults():
    @task
    def made(a: int = 1) -> None: ...

    assert made.read_parameters(None) == ((1,), {})


def test_without_an_annotation_nothing_is_converted():
    assert untyped.read_parameters({"value": {"at": "2026-11-30"}}) == (({"at": "2026-11-30"}, None), {})


ARGUMENTS: list[tuple[Any, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (send, ("ada",), {}, {"to": "ada"}),
    (send, (), {"subject": "s", "to": "ada"}, {"to": "ada", "subject": "s"}),
    (send, ("ada",), {"at": date(2026, 1, 2)}, {"to": "ada", "at": "2026-01-02"}),
    (log, (1,), {}, {"level": 1}),
    (log, (1, "a", "b"), {"x": 2}, {"level": 1, "lines": ["a", "b"], "x": 2}),
    (log, (1,), {"labels": 3}, {"level": 1, "labels": 3}),
]


@pytest.mark.parametrize(("made", "args", "kwargs", "parameters"), ARGUMENTS)
def test_arguments_are_sent_by_name_without_defaults_and_call_the_same(made, args, kwargs, parameters):
    sent = made.call(*args, **kwargs).input["parameters"]

    assert sent == parameters
    read_args, read_kwargs = made.read_parameters(sent)
    original = made.parameters.signature.bind(*args, **kwargs)
    read = made.parameters.signature.bind(*read_args, **read_kwargs)
    original.apply_defaults()
    read.apply_defaults()
    assert read.arguments == original.arguments


def test_a_keyword_with_the_name_of_another_parameter_is_refused():
    with pytest.raises(TypeError, match="got multiple values for parameter 'level'"):
        log.call(1, level=2)


def test_wrong_arguments_are_refused_before_anything_is_sent():
    with pytest.raises(TypeError, match="missing a required argument: 'to'"):
        send.call()  # type: ignore[call-arg] # what is tested
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'cc'"):
        send.call("ada", cc="bob")  # type: ignore[call-arg] # what is tested


# A first parameter that is annotated `Run`


@task
def count(run: Run, number: int = 1) -> tuple[str, int]:
    return run.id, number


def test_the_run_is_no_parameter_and_filled_in_by_the_worker():
    assert count.call(2).input["parameters"] == {"number": 2}
    args, kwargs = count.read_parameters({"number": 2}, Run("r"))

    assert count.function(*args, **kwargs) == ("r", 2)


def test_a_plain_call_within_a_run_passes_the_run_on():
    with use_run(Run("outer")):
        assert count(3) == ("outer", 3)


def test_a_run_that_is_not_the_first_parameter_is_refused():
    with pytest.raises(TypeError, match=r"Only the first parameter of .*wrong can be annotated `Run`"):

        @task
        def wrong(number: int, run: Run) -> None: ...


def test_an_annotation_that_does_not_exist_at_run_time_is_reported():
    made = task(make_function("def made(page: Page) -> None: ..."))

    with pytest.raises(TypeError, match=r"The annotation of `page` of .*made cannot be resolved: name 'Page'"):
        made.read_parameters({"page": {}})


def make_function(source: str) -> Any:
    """Return the function of a module with string annotations."""
    names: dict[str, Any] = {"__name__": "made_up"}
    exec(f"from __future__ import annotations\n{source}", names)  # noqa: S102
    return names["made"]


def test_a_run_that_is_imported_for_type_checkers_only_is_recognised():
    made = task(make_function("def made(run: Run, number: int) -> None: ..."))

    assert made.read_parameters({"number": 1}, Run("r"))[0][1:] == (1,)
    assert made.call(1).input["parameters"] == {"number": 1}
