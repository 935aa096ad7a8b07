"""Tasks stay functions, and what a call sends follows from the task, its arguments and its options."""

import asyncio
import functools
import json
import subprocess
import sys
import textwrap
import urllib.request
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runyard_client.app import Runyard
from runyard_client.context import Run, use_run
from runyard_client.errors import BadParameters, Fail, NoRun, NotSerialisable
from runyard_client.tasks.calls import make_call
from runyard_client.tasks.decorator import make_task, register_task, task
from runyard_client.tasks.retries import RetryPolicy
from runyard_client.tasks.task import AsyncTask, SyncTask

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


async def send_mail(to: str, subject: str = "Hello") -> str:
    """Send a mail."""
    return f"{to}: {subject}"


def render(pages: int) -> int:
    return pages


def sent(made: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the input of a call without the two fields that all calls have."""
    created = made.call(*args, **kwargs).input
    return {name: value for name, value in created.items() if name not in ("taskKey", "dynamicKey")}


# A task stays a function


async def test_calling_a_task_calls_its_function():
    made, other = task(send_mail), task(render)

    assert await made("ada", subject="x") == "ada: x"
    assert other(3) == 3


def test_a_task_has_the_name_signature_and_docstring_of_its_function():
    made = task(send_mail)

    assert (made.__name__, made.__doc__, made.__module__) == ("send_mail", "Send a mail.", __name__)
    assert made.parameters.names == {"to", "subject"}
    assert repr(made) == "<AsyncTask test_tasks.send_mail>"


def test_the_kind_and_pool_of_a_task_follow_from_its_function():
    assert (type(task(send_mail)), task(send_mail).options.pool) == (AsyncTask, "loop")
    assert (type(task(render)), task(render).options.pool) == (SyncTask, "thread")


def test_the_default_key_is_module_and_name():
    def inner() -> None: ...

    assert task(send_mail).key == "test_tasks.send_mail"
    assert task(inner).key == "test_tasks.test_the_default_key_is_module_and_name.<locals>.inner"
    assert task(key="mail")(send_mail).key == "mail"


def test_the_key_in_a_program_is_that_of_its_file(tmp_path: Path):
    program = "from runyard_client.tasks.decorator import task\n@task\ndef made(): ...\nprint(made.key)\n"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(program)

    def key(*arguments: str) -> str:
        code = "import runpy, sys; sys.path[0] = '.'; "
        command = [sys.executable, *arguments] if arguments else [sys.executable, "-c", code + program]
        paths = [str(Path(__file__).parents[1]), str(tmp_path)]
        environment = {"PYTHONPATH": ":".join(paths)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert key("shop/jobs.py") == "jobs.made\n"
    assert key("-m", "shop.jobs") == "shop.jobs.made\n"


def test_a_task_that_takes_a_run_needs_one():
    @task
    def made(run: Run) -> str:
        return run.id

    with pytest.raises(NoRun):
        made()


# Errors of registration


class Mailer:
    def send(self) -> None: ...

    @staticmethod
    def check() -> None: ...

    def __call__(self) -> None: ...


def generate() -> Any:
    yield 1


async def stream() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 0, "A task cannot be a lambda"),
        (Mailer.send, r"Mailer\.send is a method, which cannot be a task"),
        (Mailer.check, r"Mailer\.check is a method, which cannot be a task"),
        (Mailer().send, "A task must be a function; got <bound method"),
        (Mailer(), "A task must be a function; got"),
        (Mailer, "A task must be a function; got"),
        (functools.partial(render, 3), "A task must be a function; got functools.partial"),
        (len, "A task must be a function; got <built-in function len>"),
        (generate, "generate is a generator, which cannot be a task"),
        (stream, "stream is a generator, which cannot be a task"),
    ],
)
def test_what_is_not_a_plain_function_is_refused(function, message):
    with pytest.raises(TypeError, match=message):
        task(function)


def test_a_method_is_refused_when_its_class_is_defined():
    with pytest.raises(TypeError, match=r"Wrong\.send is a method, which cannot be a task"):

        class Wrong:
            @task
            def send(self) -> None: ...


def test_two_tasks_of_one_app_cannot_have_one_key():
    app = Runyard()
    first = app.task(key="mail")(send_mail)

    with pytest.raises(
        ValueError, match=r"Two tasks have the key 'mail': send_mail \(.*test_tasks\.py:\d+\) and render \("
    ):
        app.task(key="mail")(render)
    assert app.tasks == {"mail": first}


def test_one_task_can_be_added_twice_but_not_to_another_app():
    app, made = Runyard(), task(send_mail)

    register_task(made, app)
    register_task(made, app)

    assert app.tasks == {made.key: made}
    with pytest.raises(ValueError, match=r"The task test_tasks\.send_mail belongs to another Runyard"):
        register_task(made, Runyard())


def test_a_task_with_options_of_calls_belongs_to_the_app_of_its_task():
    made = task(send_mail)
    later = made.with_(delay=60).with_(priority=1)
    app = Runyard()

    register_task(later, app)
    register_task(made, app)

    assert app.tasks == {made.key: made}
    assert later.app is made.app is app


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pool": "gpu"}, ValueError, "`pool` must be 'loop', 'thread' or 'process'; got 'gpu'"),
        ({"pool": "thread"}, ValueError, "`pool` must be 'loop' or 'process' for send_mail, which is `async def`"),
        ({"key": ""}, ValueError, "`key` must have 1 to 1,000 bytes; got 0"),
        ({"key": "ü" * 501}, ValueError, "`key` must have 1 to 1,000 bytes; got 1,002"),
        ({"key": 3}, TypeError, "`key` must be a string; got 3"),
        ({"retries": -1}, ValueError, "`retries` must be between 0 and 2,147,483,647; got -1"),
        ({"timeout": 0}, ValueError, r"`timeout` must be between 0\.001 and 31,535,970\.0 seconds; got 0\.0"),
        ({"timeout": timedelta(days=366)}, ValueError, r"`timeout` must be between .* got 31622400\.0"),
        ({"timeout": "3"}, TypeError, "`timeout` must be a number of seconds; got '3'"),
        ({"lease_seconds": 0.5}, ValueError, r"`lease_seconds` must be between 1 and 86,400\.0 seconds; got 0\.5"),
        ({"grace": -1}, ValueError, "`grace` must be between 0 and 3,600 seconds; got -1"),
        ({"cache_for": 5}, ValueError, "`cache_for` has no effect without `cache_key`"),
        ({"result": "file"}, ValueError, "`result` must be 'inline', 'discard' or a ResultStore; got 'file'"),
        ({"tags": "mail"}, TypeError, "`tags` must be a list of strings; got the string 'mail'"),
        ({"tags": [1]}, TypeError, "`tags` must be a list of strings; got 1"),
        ({"retry_on": OSError()}, TypeError, r"`retry_on` must be exception classes; got OSError\(\)"),
        ({"fail_on": (int,)}, TypeError, "`fail_on` must be exception classes; got <class 'int'>"),
        ({"raises": "OSError"}, TypeError, "`raises` must be exception classes; got 'OSError'"),
        (
            {"name": "mail to {whom}"},
            ValueError,
            r"`name` has \{whom\}, but test_tasks\.send_mail has no parameter 'whom'",
        ),
        ({"retrys": 3}, TypeError, "@task has no option 'retrys'"),
    ],
)
def test_invalid_options_are_refused_with_option_value_and_limit(options, error, message):
    app = Runyard()

    with pytest.raises(error, match=message):
        app.task(**options)(send_mail)
    assert app.tasks == {}


def test_a_function_that_is_not_async_cannot_run_on_the_loop():
    with pytest.raises(ValueError, match="`pool` must be 'thread' or 'process' for render, which is not `async def`"):
        task(pool="loop")(render)


# What a call sends


def test_a_call_sends_the_key_the_parameters_and_a_scheduled_state():
    call = task(key="mail")(send_mail).call("ada")

    assert call.input == {
        "taskKey": "mail",
        "dynamicKey": call.key,
        "parameters": {"to": "ada"},
        "state": {"type": "SCHEDULED"},
    }
    assert UUID(call.key).version == 4
    assert call.size == len(json.dumps(call.input, separators=(",", ":")))


def test_each_call_has_a_key_of_its_own_that_stays():
    made = task(send_mail)
    first, second = made.call("ada"), made.call("ada")

    assert first.key == first.key != second.key


def test_the_options_of_the_task_are_sent():
    made = task(
        version="1.2",
        retries=5,
        retry_delays=[1, 2],
        jitter=0.3,
        timeout=60,
        tags=["a", "b", "a"],
        cache_key=lambda arguments: f"{arguments['to']}/{arguments['subject']}",
        cache_for=timedelta(hours=1),
        name="mail to {to}: {subject}",
    )(send_mail)

    assert sent(made, "ada") == {
        "parameters": {"to": "ada"},
        "state": {"type": "SCHEDULED"},
        "taskVersion": "1.2",
        "retryPolicy": {"retries": 5, "retryDelaySeconds": [1.0, 2.0], "retryJitterFactor": 0.3},
        "timeoutSeconds": 90.0,
        "tags": ["a", "b"],
        "cacheKey": "ada/Hello",
        "name": "mail to ada: Hello",
    }
    assert made.options.cache_for == 3600.0


def test_the_options_of_a_call_are_sent():
    made = task(tags=["a"])(send_mail).with_(
        delay=timedelta(minutes=1), priority=-10, unique="u", metadata={"at": NOW}, key="k", tags=["b", "a"], name="n"
    )

    assert made.call("ada").key == "k"
    assert sent(made, "ada") == {
        "parameters": {"to": "ada"},
        "state": {"type": "SCHEDULED"},
        "delaySeconds": 60.0,
        "priority": -10,
        "uniqueKey": "u",
        "metadata": {"at": "2026-11-30T12:00:00+00:00"},
        "tags": ["a", "b"],
        "name": "n",
    }


def test_a_time_is_sent_in_utc_as_the_scheduled_time():
    made = task(send_mail).with_(at=datetime(2026, 11, 30, 14, tzinfo=timezone(timedelta(hours=2))))

    assert sent(made, "ada")["state"] == {
        "type": "SCHEDULED",
        "details": {"scheduledTime": "2026-11-30T12:00:00+00:00"},
    }


@pytest.mark.parametrize("expires", [60, timedelta(minutes=1), NOW + timedelta(minutes=1)])
def test_the_expiry_is_a_time_or_a_time_from_the_call_on(expires):
    made = task(send_mail).with_(expires=expires)

    call = make_call(made, made.call_options, made.parameters.bind(("ada",), {}), now=lambda: NOW)

    assert call.input["expiresAt"] == "2026-11-30T12:01:00+00:00"


def test_tags_of_calls_are_added_to_those_of_the_task():
    made = task(tags=["a", "b"])(send_mail).with_(tags=["c", "a"])

    assert sent(made.with_(tags=["d"]), "ada")["tags"] == ["a", "b", "c", "d"]
    assert sent(made, "ada")["tags"] == ["a", "b", "c"]


def test_options_of_a_call_replace_those_of_the_task_in_a_copy():
    made = task(retries=5, retry_delays=2, timeout=60, cache_key="c", cache_for=5)(send_mail)
    other = made.with_(retries=1, timeout=None, cache_key=None).with_(jitter=1)

    assert other.options.retries == RetryPolicy(1, (2.0,), 1.0)
    assert (other.options.timeout, other.options.cache_key, other.options.cache_for) == (None, None, None)
    assert made.options.retries == RetryPolicy(5, (2.0,), 0.0)
    assert sent(made, "ada")["timeoutSeconds"] == 90.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delay": 1, "at": NOW}, TypeError, "`delay` and `at` cannot be combined"),
        ({"delay": -1}, ValueError, "`delay` must be between 0 and 315,360,000 seconds; got -1"),
        ({"at": datetime(2026, 11, 30)}, ValueError, "`at` must have an offset"),  # noqa: DTZ001
        ({"at": "2026-11-30"}, TypeError, "`at` must be a datetime; got '2026-11-30'"),
        ({"priority": 11}, ValueError, "`priority` must be between -10 and 10; got 11"),
        ({"priority": 1.0}, TypeError, "`priority` must be an integer; got 1.0"),
        ({"expires": 0}, ValueError, "`expires` must be between 0.001 and 315,360,000 seconds; got 0"),
        ({"unique": "u" * 1_001}, ValueError, "`unique` must have 1 to 1,000 bytes; got 1,001"),
        ({"key": ""}, ValueError, "`key` must have 1 to 1,000 bytes; got 0"),
        ({"metadata": [1]}, TypeError, r"`metadata` must be a mapping; got \[1\]"),
        ({"retries": -1}, ValueError, "`retries` must be between 0 and 2,147,483,647; got -1"),
        ({"timeout": 0}, ValueError, "`timeout` must be between"),
        ({"flow_run": "id"}, ValueError, "`flow_run` is not supported: the server does not queue"),
        ({"delai": 3}, TypeError, "has no option 'delai'"),
    ],
)
def test_invalid_options_of_a_call_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        task(send_mail).with_(**options)


def test_metadata_above_the_limit_is_refused():
    with pytest.raises(ValueError, match="`metadata` must not exceed 65,536 bytes of JSON; got 65,545"):
        task(send_mail).with_(metadata={"a": "x" * 65_537}).call("ada")


def test_the_path_of_an_argument_that_cannot_be_sent_begins_with_its_name():
    @task
    def made(pages: list[Any], **others: Any) -> None: ...

    with pytest.raises(NotSerialisable, match=r"^pages\[1\]\.title: ") as caught:
        made.call([1, {"title": object()}])
    assert caught.value.path == "pages[1].title"
    with pytest.raises(NotSerialisable, match=r"^last\.x: "):
        made.call([], last={"x": object()})


# Within a run


def test_a_call_within_a_run_names_it_as_its_parent_and_has_its_trace():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    made = task(send_mail)

    with use_run(Run("outer", trace_parent=trace)):
        within, without = sent(made, "ada"), sent(made.with_(parent=False), "ada")

    assert within["taskInputs"] == {"__parent__": [{"input_type": "task_run", "id": "outer"}]}
    assert within["traceParent"] == without["traceParent"] == trace
    assert "taskInputs" not in without
    with use_run(Run("outer", enqueue_parent=False)):
        assert "taskInputs" not in sent(made, "ada")


# Retries


class Away(OSError):
    pass


class AwayForGood(Away):
    pass


@pytest.mark.parametrize(
    ("options", "retried", "not_retried"),
    [
        ({}, [ValueError(), Away(), KeyboardInterrupt(), SystemExit()], []),
        ({"fail_on": OSError}, [ValueError()], [OSError(), Away()]),
        ({"retry_on": OSError}, [OSError(), AwayForGood()], [ValueError()]),
        ({"retry_on": Away, "fail_on": OSError}, [Away(), AwayForGood()], [OSError(), ConnectionError(), ValueError()]),
        ({"retry_on": OSError, "fail_on": (AwayForGood, KeyError)}, [OSError(), Away()], [AwayForGood(), KeyError()]),
        ({"retry_on": OSError, "fail_on": OSError}, [], [OSError(), Away()]),
        ({"retry_on": Exception}, [ValueError()], [Fail(), BadParameters("no", parameter="to"), NotSerialisable("no")]),
    ],
)
def test_the_most_specific_class_that_is_listed_decides_about_a_retry(options, retried, not_retried):
    made = make_task(send_mail, options)

    assert [made.is_retriable(error) for error in retried] == [True] * len(retried)
    assert [made.is_retriable(error) for error in not_retried] == [False] * len(not_retried)


# With a server


def test_a_task_without_an_app_cannot_be_enqueued():
    with pytest.raises(RuntimeError, match=r"The task test_tasks\.send_mail belongs to no Runyard. Add it with"):
        task(send_mail).enqueue_sync("ada")


QUERY = textwrap.dedent("""
    query ($id: ID!) { taskRun(id: $id) {
      taskKey dynamicKey name parameters taskVersion tags priority expiresAt timeoutSeconds uniqueKey metadata traceParent
      taskInputs cacheKey retryPolicy { retries retryDelaySeconds retryJitterFactor }
      state { type details { scheduledTime } }
    } }""")


def read_run(url: str, run_id: str) -> dict[str, Any]:
    body = json.dumps({"query": QUERY, "variables": {"id": run_id}}).encode()
    address = f"{url.removesuffix('/graphql')}/graphql"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        run: dict[str, Any] = json.loads(response.read())["data"]["taskRun"]
    return run


async def test_the_server_stores_all_that_a_call_sends(server, unique_key):
    app = Runyard(server.url)
    key, expires = unique_key("mail"), datetime(2035, 1, 1, tzinfo=UTC)
    made = app.task(
        key=key, version="1", retries=2, retry_delays=[1, 2], jitter=0.5, timeout=60, tags=["a"], cache_key="c"
    )(send_mail)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    options = made.with_(
        at=datetime(2030, 1, 1, tzinfo=UTC),
        priority=3,
        expires=expires,
        unique="u",
        metadata={"m": 1},
        key="k",
        name="n",
    )

    with use_run(Run("3f0e3bd4-2c6f-4b9c-8d58-3b0f8f4e1c11", trace_parent=trace)):
        handle = await options.enqueue("ada", subject="x")

    run = await asyncio.to_thread(read_run, server.url, str(handle.id))
    await app.close()
    assert run == {
        "taskKey": key,
        "dynamicKey": "k",
        "name": "n",
        "parameters": {"to": "ada", "subject": "x"},
        "taskVersion": "1",
        "tags": ["a"],
        "priority": 3,
        "expiresAt": "2035-01-01T00:00:00.000000Z",
        "timeoutSeconds": 90.0,
        "uniqueKey": "u",
        "metadata": {"m": 1},
        "traceParent": trace,
        "taskInputs": {"__parent__": [{"input_type": "task_run", "id": "3f0e3bd4-2c6f-4b9c-8d58-3b0f8f4e1c11"}]},
        "cacheKey": "c",
        "retryPolicy": {"retries": 2, "retryDelaySeconds": [1.0, 2.0], "retryJitterFactor": 0.5},
        "state": {"type": "SCHEDULED", "details": {"scheduledTime": "2030-01-01T00:00:00.000000Z"}},
    }
