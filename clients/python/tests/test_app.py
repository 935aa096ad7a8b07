"""The app: its settings, its tasks and its hooks."""

from types import ModuleType
from typing import Any

import pytest

from runyard_client import Runyard, task


def test_the_url_comes_from_the_argument_then_the_environment_then_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Runyard().url == "http://127.0.0.1:4200/graphql"
    monkeypatch.setenv("RUNYARD_URL", "https://runyard.example")
    assert Runyard().url == "https://runyard.example/graphql"
    assert Runyard("http://10.0.0.1:4200/").url == "http://10.0.0.1:4200/graphql"


def test_the_environment_is_read_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Runyard()
    monkeypatch.setenv("RUNYARD_URL", "https://runyard.example")

    assert app.url == "https://runyard.example/graphql"


def test_an_invalid_url_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^The URL of the server must start with http:// or https://"):
        Runyard("localhost:4200")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 86_401])
def test_a_time_out_out_of_its_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^`enqueue_timeout` must be above 0 and at most 86,400 seconds; got "):
        Runyard(enqueue_timeout=seconds)


def test_an_unknown_choice_for_full_queues_is_refused() -> None:
    choice: Any = "drop"

    with pytest.raises(ValueError, match=r"^`when_full` must be 'raise' or 'wait'; got 'drop'\.$"):
        Runyard(when_full=choice)


def make_module(*names: str) -> ModuleType:
    module = ModuleType("library")
    for name in names:

        @task(key=name)
        async def function() -> None: ...

        setattr(module, name, function)
    return module


def test_the_tasks_of_a_module_are_added() -> None:
    app = Runyard()
    module = make_module("first", "second")

    app.add(module)
    app.add(module)

    assert list(app.tasks) == ["first", "second"]
    assert {each.app for each in app.tasks.values()} == {app}


def test_a_task_is_added() -> None:
    app = Runyard()
    module = make_module("first")

    app.add(module.first)

    assert list(app.tasks) == ["first"]


def test_a_task_of_another_app_is_refused() -> None:
    module = make_module("first")
    Runyard().add(module)

    with pytest.raises(ValueError, match=r"^The task first belongs to another Runyard\.$"):
        Runyard().add(module.first)
    with pytest.raises(ValueError, match=r"^The module library has no tasks that belong to no Runyard yet\.$"):
        Runyard().add(module)


def test_something_else_than_a_task_is_refused() -> None:
    something: Any = len

    with pytest.raises(TypeError, match=r"^`tasks` must be a task or a module; got <built-in function len>\.$"):
        Runyard().add(something)


def test_a_task_without_an_app_cannot_be_enqueued() -> None:
    with pytest.raises(RuntimeError, match=r"^The task first belongs to no Runyard\."):
        make_module("first").first.enqueue_sync()


def test_hooks_are_kept_in_order() -> None:
    app = Runyard()

    @app.on_worker_start
    def first() -> None: ...

    @app.on_worker_start
    async def second() -> None: ...

    @app.on_worker_stop
    def last() -> None: ...

    @app.around
    async def log(call_next: Any) -> Any: ...

    assert (app.start_hooks, app.stop_hooks, app.middleware) == ([first, second], [last], [log])
