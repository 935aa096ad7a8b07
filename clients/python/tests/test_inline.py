"""Inline mode: calls are recorded and executed in the test's process, through JSON, by a clock of its own."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runyard_client import (
    BadParameters,
    Fail,
    NotSerialisable,
    Retry,
    Runyard,
    RunyardError,
    Snooze,
    TaskCancelled,
    TaskFailed,
    current_run,
)
from runyard_client.testing import Inline, NotImitated

START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Receipt:
    to: str
    sent_at: datetime


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline(now=START) as active:
        yield active


@pytest.fixture
def app() -> Runyard:
    return Runyard()


def test_a_call_is_executed_through_json_and_its_handle_has_the_result(inline: Inline, app: Runyard) -> None:
    seen: list[Any] = []

    @app.task
    def send_mail(to: str, subject: str = "Hello", copies: tuple[str, ...] = ()) -> Receipt:
        seen.append((to, subject, copies))
        return Receipt(to, START)

    handle = send_mail.enqueue_sync("ada@example.org", copies=("bob@example.org",))
    assert seen == []
    assert inline.run_all() == 1

    assert seen == [("ada@example.org", "Hello", ("bob@example.org",))]
    assert handle.created
    assert handle.result_sync() == Receipt("ada@example.org", START)
    assert handle.status_sync().type == "COMPLETED"
    assert inline.run_all() == 0


async def test_async_tasks_run_on_the_loop_of_an_async_test(inline: Inline, app: Runyard) -> None:
    @app.task
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    @app.task
    def triple(number: int) -> int:
        return 3 * number

    handles = [await double.enqueue(4), await triple.enqueue(5)]
    assert await inline.run_all_async() == 2

    assert [await handle.result() for handle in handles] == [8, 15]
    assert [handle async for handle in app.as_completed(handles)] == handles
    with pytest.raises(RuntimeError, match="run_all_async"):
        inline.run_all()


def test_async_tasks_run_in_a_test_without_a_loop(inline: Inline, app: Runyard) -> None:
    @app.task
    async def who() -> str:
        await asyncio.sleep(0)
        return current_run().key

    handle = who.enqueue_sync()
    inline.run_all()

    assert handle.result_sync() == who.key


def test_what_is_not_json_is_refused_before_anything_is_recorded(inline: Inline, app: Runyard) -> None:
    @app.task
    def take(value: Any) -> Any:
        return object()

    with pytest.raises(NotSerialisable, match="value"):
        take.enqueue_sync(object())
    assert inline.runs == []

    take.enqueue_sync(1)
    with pytest.raises(NotSerialisable):
        inline.run_all()


def test_a_run_that_fails_is_retried_as_its_policy_says(inline: Inline, app: Runyard) -> None:
    times: list[float] = []

    @app.task(retries=3, retry_delays=[10, 60])
    def flaky() -> str:
        times.append((inline.now - START).total_seconds())
        if current_run().run_count < 4:
            raise ConnectionError("away")
        return "done"

    handle = flaky.enqueue_sync()
    assert inline.run_all() == 4

    assert times == [0, 10, 70, 130]
    assert handle.result_sync() == "done"
    assert handle.status_sync().run_count == 4


def test_the_exception_of_a_failed_run_is_raised_and_the_others_wait(inline: Inline, app: Runyard) -> None:
    @app.task(retries=1)
    def broken() -> None:
        raise ConnectionError("away")

    handles = [broken.enqueue_sync(), broken.enqueue_sync()]
    with pytest.raises(ConnectionError, match="away"):
        inline.run_all()
    with pytest.raises(ConnectionError, match="away"):
        inline.run_all()

    assert inline.run_all() == 0
    with pytest.raises(TaskFailed, match="ConnectionError: away") as failed:
        handles[0].result_sync()
    assert failed.value.attempt == 2


def test_exceptions_are_kept_in_handles_on_request(inline: Inline, app: Runyard) -> None:
    @app.task(retries=5)
    def refuse() -> None:
        raise Fail("no such address")

    handle = refuse.enqueue_sync()
    assert inline.run_all(raise_errors=False) == 1

    with pytest.raises(TaskFailed, match="no such address"):
        handle.result_sync()
    assert isinstance(inline.runs[0].error, Fail)


def test_retry_counts_as_a_retry_and_snooze_does_not(inline: Inline, app: Runyard) -> None:
    seen: list[tuple[float, int, int]] = []

    @app.task(retries=1)
    def patient() -> None:
        run = current_run()
        seen.append(((inline.now - START).total_seconds(), run.run_count, run.delivery))
        raise Snooze(30) if run.delivery == 1 else Retry(after=5, message="not yet")

    handle = patient.enqueue_sync()
    assert inline.run_all(raise_errors=False) == 3

    assert seen == [(0, 1, 1), (30, 1, 2), (35, 2, 3)]
    with pytest.raises(TaskFailed, match="not yet"):
        handle.result_sync()


def test_the_clock_advances_only_on_request(inline: Inline, app: Runyard) -> None:
    order: list[str] = []

    @app.task
    def note(text: str) -> None:
        order.append(text)

    note.with_(delay=60).enqueue_sync("delay")
    note.with_(at=START + timedelta(seconds=30)).enqueue_sync("at")
    note.enqueue_sync("now")
    note.with_(priority=5).enqueue_sync("first")

    assert (inline.run_due(), order) == (2, ["first", "now"])
    inline.advance(30)
    assert (inline.run_due(), order[2:]) == (1, ["at"])
    assert (inline.run_all(), order[3:]) == (1, ["delay"])
    assert inline.now == START + timedelta(seconds=60)


def test_one_key_makes_one_run_and_unique_one_that_has_not_ended(inline: Inline, app: Runyard) -> None:
    @app.task
    def note() -> None: ...

    first = note.with_(key="a").enqueue_sync()
    again = note.with_(key="a").enqueue_sync()
    single = note.with_(unique="b").enqueue_sync()
    double = note.with_(unique="b").enqueue_sync()
    assert inline.run_all() == 2
    later = note.with_(unique="b").enqueue_sync()

    assert [handle.created for handle in (first, again, single, double, later)] == [True, False, True, False, True]
    assert (again.id, double.id) == (first.id, single.id)
    assert inline.run_all() == 1


def test_a_task_enqueues_others_and_names_its_run(inline: Inline, app: Runyard) -> None:
    @app.task
    def child() -> None: ...

    @app.task
    def parent() -> None:
        child.enqueue_sync()

    handle = parent.enqueue_sync()
    assert inline.run_all() == 2

    run = inline.assert_enqueued(child)
    assert run.input["taskInputs"] == {"__parent__": [{"input_type": "task_run", "id": handle.id}]}


def test_middleware_and_worker_state_are_those_of_a_worker(inline: Inline, app: Runyard) -> None:
    seen: list[Any] = []

    @app.around
    def record(run: Any, arguments: Any) -> Any:
        seen.append((run.key, dict(arguments)))
        seen.append((yield))

    @app.task(key="add")
    def add(number: int) -> int:
        return number + current_run().state

    inline.state = 10
    add.enqueue_sync(3)
    inline.run_all()

    assert seen == [("add", {"number": 3}), 13]


def test_waiting_for_a_run_that_nothing_executes_is_an_error(inline: Inline, app: Runyard) -> None:
    @app.task(key="idle")
    def idle() -> None: ...

    handle = idle.enqueue_sync()

    with pytest.raises(RunyardError, match=r"run 1 of idle has not ended. Call `run_all\(\)`"):
        handle.result_sync(timeout=30)


def test_a_cancelled_and_an_expired_run_are_not_executed(inline: Inline, app: Runyard) -> None:
    @app.task
    def idle() -> None: ...

    cancelled = idle.enqueue_sync()
    expired = idle.with_(expires=START + timedelta(seconds=5), delay=10).enqueue_sync()
    assert cancelled.cancel_sync().type == "CANCELLED"
    assert inline.run_all() == 0

    inline.advance(10)
    assert inline.run_all() == 0
    with pytest.raises(TaskCancelled):
        cancelled.result_sync()
    assert expired.status_sync().name == "Expired"


def test_a_running_task_that_is_cancelled_can_look(inline: Inline, app: Runyard) -> None:
    @app.task
    def cancel_itself() -> None:
        app.handle(current_run().id).cancel_sync()
        current_run().check()

    handle = cancel_itself.enqueue_sync()
    inline.run_all()

    assert handle.status_sync().type == "CANCELLED"


def test_progress_is_kept(inline: Inline, app: Runyard) -> None:
    @app.task
    def count() -> None:
        current_run().progress(2, 3, "two")

    handle = count.enqueue_sync()
    inline.run_all()

    progress = handle.status_sync().progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (2, 3, "two")


def test_rules_that_are_not_imitated_are_refused(inline: Inline, app: Runyard) -> None:
    @app.task(cache_key="constant")
    def cached() -> None: ...

    with pytest.raises(NotImitated, match=r"`cache_key` of .*cached"):
        cached.enqueue_sync()
    cached.with_(cache_key=None).enqueue_sync()

    assert inline.run_all() == 1


def test_a_task_that_enqueues_itself_without_end_is_stopped(inline: Inline, app: Runyard) -> None:
    @app.task
    def again() -> None:
        app.handle(current_run().id).delete_sync()
        again.enqueue_sync()

    again.enqueue_sync()

    with pytest.raises(RunyardError, match="10,000 attempts"):
        inline.run_all()


def test_each_attempt_gets_the_arguments_that_were_sent(inline: Inline, app: Runyard) -> None:
    seen: list[list[int]] = []

    @app.task(retries=1)
    def consume(numbers: Any) -> Any:
        seen.append(list(numbers))
        numbers.clear()
        if len(seen) == 1:
            raise ConnectionError
        return numbers

    numbers = [1, 2]
    handle = consume.enqueue_sync(numbers)
    numbers.append(3)
    inline.run_all()
    handle.result_sync().append(4)

    assert seen == [[1, 2], [1, 2]]
    inline.assert_enqueued(consume, numbers=[1, 2])


def test_parameters_of_older_code_fail_as_in_a_worker(inline: Inline, app: Runyard) -> None:
    @app.task(key="renamed")
    def old(gone: int) -> None: ...

    other = Runyard()

    @other.task(key="renamed", retries=3)
    def new(name: str) -> None: ...

    old.enqueue_sync(1)
    inline.runs[0].task = new

    with pytest.raises(BadParameters, match="gone"):
        inline.run_all()


def test_enqueue_many_keeps_the_order(inline: Inline, app: Runyard) -> None:
    @app.task
    def square(number: int) -> int:
        return number**2

    handles = app.enqueue_many_sync(square.call(number) for number in range(5))
    inline.run_all()

    assert [handle.result_sync() for handle in handles] == [0, 1, 4, 9, 16]


class TestAssertions:
    """`assert_enqueued` compares parameters through JSON, and options."""

    def test_the_run_that_matches_is_returned(self, inline: Inline, app: Runyard) -> None:
        @app.task
        def send(to: str, at_once: bool = False) -> None: ...

        send.with_(delay=60, tags=["mail", "slow"], metadata={"team": 1}).enqueue_sync("ada")
        send.enqueue_sync("bob", at_once=True)

        run = inline.assert_enqueued(send, to="ada", delay=60, tags=["mail"], metadata={"team": 1})
        assert run.parameters == {"to": "ada"}
        assert inline.assert_enqueued(send, at_once=True).parameters["to"] == "bob"
        inline.assert_not_enqueued(send, to="eve")

    def test_a_missing_run_is_reported_with_those_of_the_task(self, inline: Inline, app: Runyard) -> None:
        @app.task(key="send")
        def send(to: str) -> None: ...

        with pytest.raises(AssertionError, match=r"0 runs of send match .*It was not enqueued"):
            inline.assert_enqueued(send)
        send.enqueue_sync("ada")
        send.enqueue_sync("ada")

        with pytest.raises(AssertionError, match=r'0 runs of send match \{.to.: .bob.\}; expected one.\n  .*"ada"'):
            inline.assert_enqueued(send, to="bob")
        with pytest.raises(AssertionError, match="2 runs of send match"):
            inline.assert_enqueued(send, to="ada")
        with pytest.raises(AssertionError, match=r"2 runs of send match .*expected none"):
            inline.assert_not_enqueued(send)

    def test_values_are_compared_as_they_are_sent(self, inline: Inline, app: Runyard) -> None:
        @app.task
        def send(moment: datetime, wait: timedelta) -> None: ...

        send.with_(at=START).enqueue_sync(START, timedelta(seconds=2))

        inline.assert_enqueued(send, moment=START, wait=timedelta(seconds=2), at=START)

    def test_a_parameter_has_precedence_over_an_option_of_its_name(self, inline: Inline, app: Runyard) -> None:
        @app.task
        def send(delay: int) -> None: ...

        send.with_(delay=5).enqueue_sync(7)

        inline.assert_enqueued(send, delay=7)
        inline.assert_not_enqueued(send, delay=5)

    def test_an_unknown_name_is_an_error(self, inline: Inline, app: Runyard) -> None:
        @app.task(key="send")
        def send() -> None: ...

        with pytest.raises(TypeError, match="'too' is neither a parameter of send nor an option"):
            inline.assert_enqueued(send, too="ada")


def test_inline_mode_ends_with_its_block_and_is_not_nested() -> None:
    with Inline(), pytest.raises(RuntimeError, match="active already"), Inline():
        pass

    assert Runyard.backend is None


def test_the_fixture_covers_every_app(runyard_inline: Inline) -> None:
    @Runyard("http://127.0.0.1:1").task
    def idle() -> None: ...

    idle.enqueue_sync()

    assert runyard_inline.run_all() == 1
