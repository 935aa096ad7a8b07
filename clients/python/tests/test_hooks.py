"""Hooks at the start and the stop of an executor, and middleware around each run."""

import asyncio

import pytest

from executing import Peer, child, executing, make_app, process_slot
from runyard_client import current_run
from runyard_client.worker.executors.executor import Executor


def make_state_app(*hooks):
    app = make_app()
    for hook in hooks:
        app.on_worker_start(hook)

    @app.task(key="state")
    async def state():
        return current_run().state

    return app


async def connect():
    return "ignored"


def plain():
    return None


def yields_mapping():
    yield {"first": 1}


async def yields_later():
    await asyncio.sleep(0)
    yield {"second": 2}


def yields_text():
    yield "text"


@pytest.mark.parametrize(
    ("hooks", "state"),
    [
        ((), None),
        ((connect, plain), None),
        ((yields_text,), "text"),
        ((yields_mapping, yields_later, connect), {"first": 1, "second": 2}),
    ],
)
async def test_what_start_hooks_yield_is_the_state(hooks, state):
    async with executing(make_state_app(*hooks)) as peer:
        assert (await peer.state("state"))["data"] == {"result": state}


async def test_hooks_run_in_order_and_stop_in_reverse():
    app, calls = make_app(), []

    @app.on_worker_start
    def first():
        calls.append("start first")
        yield
        calls.append("stop first")

    @app.on_worker_start
    async def second():
        calls.append("start second")
        yield
        calls.append("stop second")

    @app.on_worker_stop
    async def last():
        calls.append("stop hook")

    async with executing(app):
        assert calls == ["start first", "start second"]

    assert calls == ["start first", "start second", "stop hook", "stop second", "stop first"]


async def test_a_start_hook_that_raises_prevents_the_start_and_undoes_the_others():
    app, calls, peer = make_app(), [], Peer()

    @app.on_worker_start
    def first():
        yield
        calls.append("stop first")

    @app.on_worker_start
    def broken():
        raise RuntimeError("no database")

    await Executor(app, concurrency=1, send=peer.receive).run()
    failed = await peer.next("failed")

    assert failed["error"] == "RuntimeError: no database"
    assert "in broken" in failed["traceback"]
    assert (peer.messages, calls) == ([], ["stop first"])


async def test_several_states_must_be_mappings():
    peer = Peer()

    await Executor(make_state_app(yields_mapping, yields_text), concurrency=1, send=peer.receive).run()

    assert "must yield mappings if there are several; got str" in (await peer.next("failed"))["error"]


async def test_a_stop_hook_that_raises_is_logged_and_the_others_run(caplog):
    app, calls = make_app(), []

    @app.on_worker_stop
    def first():
        calls.append("first")

    @app.on_worker_stop
    def broken():
        raise RuntimeError("closed already")

    async with executing(app):
        pass

    assert calls == ["first"]
    assert "broken failed" in caplog.text


async def test_children_and_process_slots_run_the_hooks(tmp_path, monkeypatch):
    path = tmp_path / "hooks"
    monkeypatch.setenv("RUNYARD_TEST_HOOKS", str(path))

    async with child() as (link, peer):
        assert (await peer.state("state"))["data"] == {"result": "connected"}
        await link.close(30)
    async with process_slot() as (slot, peer):
        await peer.execute("add-process", {"first": 1})
        await slot.close(30)

    assert path.read_text() == "start\nstop\nstart\nstop\n"


def make_middleware_app(calls):
    app = make_app()

    @app.around
    def outer(run, arguments):
        calls.append(("outer", run.key, dict(arguments)))
        try:
            result = yield
        except ValueError as error:
            calls.append(("outer raised", str(error)))
        else:
            calls.append(("outer returned", result))

    @app.around
    def inner(run, arguments):
        assert current_run() is run
        calls.append(("inner",))
        result = yield
        calls.append(("inner returned", result))

    @app.task(key="add")
    async def add(first: int, second: int = 2):
        if first < 0:
            raise ValueError("negative")
        return first + second

    @app.task(key="add-thread")
    def add_thread(first: int, second: int = 2):
        if first < 0:
            raise ValueError("negative")
        return first + second

    return app


@pytest.mark.parametrize("key", ["add", "add-thread"])
async def test_middleware_sees_run_arguments_and_result(key):
    calls = []

    async with executing(make_middleware_app(calls)) as peer:
        state = await peer.state(key, {"first": 3})

    assert state["data"] == {"result": 5}
    assert calls == [
        ("outer", key, {"first": 3, "second": 2}),
        ("inner",),
        ("inner returned", 5),
        ("outer returned", 5),
    ]


@pytest.mark.parametrize("key", ["add", "add-thread"])
async def test_middleware_sees_the_exception_and_cannot_suppress_it(key):
    calls = []

    async with executing(make_middleware_app(calls)) as peer:
        state = await peer.state(key, {"first": -1})

    assert (state["type"], state["message"]) == ("FAILED", "ValueError: negative")
    assert calls[-1] == ("outer raised", "negative")


def raises_before(run, arguments):
    raise LookupError("before")
    yield


def raises_after(run, arguments):
    yield
    raise LookupError("after")


def yields_twice(run, arguments):
    yield
    yield


def no_generator(run, arguments):
    return None


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (raises_before, "LookupError: before"),
        (raises_after, "LookupError: after"),
        (yields_twice, "HookError: The middleware yields_twice must yield once."),
        (no_generator, "must be a generator function that yields once."),
    ],
)
async def test_an_exception_of_the_middleware_fails_the_run(middleware, message):
    app, ended = make_app(), []

    @app.around
    def outer(run, arguments):
        try:
            yield
        finally:
            ended.append(run.key)

    app.around(middleware)

    @app.task(key="work")
    async def work() -> int:
        return 1

    async with executing(app) as peer:
        state = await peer.state("work")

    assert state["type"] == "FAILED"
    assert message in state["message"]
    assert ended == ["work"]
