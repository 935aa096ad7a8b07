"""Workers: they claim the runs of an app and execute them. `Worker` runs one within a program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from runyard_client.errors import RunyardError
from runyard_client.worker.settings import InvalidSetting as InvalidSetting
from runyard_client.worker.settings import WorkerSettings as WorkerSettings

if TYPE_CHECKING:
    from runyard_client.app import Runyard
    from runyard_client.worker.coordinator.coordinator import Coordinator

Close = Callable[[], Coroutine[Any, Any, None]]


class WorkerFailed(RunyardError):
    """The worker has ended with an exit code other than 0; its log has the reason. `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The worker has ended with exit code {code}; its log has the reason.")
        self.code = code


class Worker:
    """Executes the runs of an app within this program: `async with Worker(app, concurrency=20): …`.

    Tasks of the pool `loop` run on the loop that enters the block, those of `thread` in threads of this process; with
    `processes=1` or more, both run in child processes. Requests to the server are sent from a thread of their own. The
    end of the block drains the worker, as the first SIGTERM does. Settings are those of `WorkerSettings`; they default to
    the variables RUNYARD_WORKER_… .
    """

    def __init__(self, app: Runyard, **settings: Any) -> None:
        """Raises InvalidSetting for an invalid setting, and TypeError for an unknown one."""
        settings.setdefault("processes", 0)
        self.settings = WorkerSettings.from_environment(**settings)
        self._app = app
        self._thread: CoordinatorThread | None = None

    async def __aenter__(self) -> Self:
        """Start the worker. Returns when it claims runs; raises WorkerFailed if it cannot start."""
        app, settings, loop = self._app, self.settings, asyncio.get_running_loop()
        self._thread = CoordinatorThread(lambda: make_coordinator(app, settings, loop))
        self._thread.start()
        await asyncio.wrap_future(self._thread.started)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._thread is not None
        self.request_stop()
        await self.wait()

    def request_stop(self) -> None:
        """Begin the drain; the second time, release the runs; the third time, exit. May be called from any thread."""
        if self._thread is not None:
            self._thread.request_stop()

    async def wait(self) -> None:
        """Wait until the worker has ended. Raises WorkerFailed if its exit code is not 0."""
        assert self._thread is not None
        if code := await asyncio.wrap_future(self._thread.ended):
            raise WorkerFailed(code)


class CoordinatorThread:
    """Runs a coordinator on an event loop of its own, in a daemon thread."""

    def __init__(self, make: Callable[[], tuple[Coordinator, Close]]) -> None:
        self._make = make
        self.started: Future[None] = Future()
        """Done when claims begin; WorkerFailed if the worker ends before."""
        self.ended: Future[int] = Future()
        """The exit code."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coordinator: Coordinator | None = None
        self._thread = threading.Thread(target=self._run, name="runyard-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def request_stop(self) -> None:
        if self._loop is None or self._coordinator is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._coordinator.request_stop)
        except RuntimeError:
            return  # the loop is closed: the worker has ended

    def _run(self) -> None:
        try:
            code = asyncio.run(self._work())
        except BaseException as error:
            self._finish(error, None)
            raise
        self._finish(WorkerFailed(code), code)

    def _finish(self, error: BaseException, code: int | None) -> None:
        if not self.started.done():
            self.started.set_exception(error)
        if code is None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(code)

    async def _work(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._coordinator, close = self._make()
        watch = asyncio.ensure_future(self._watch(self._coordinator))
        try:
            return await self._coordinator.run()
        finally:
            watch.cancel()
            await close()

    async def _watch(self, coordinator: Coordinator) -> None:
        await coordinator.started.wait()
        self.started.set_result(None)


def make_coordinator(
    app: Runyard, settings: WorkerSettings, loop: asyncio.AbstractEventLoop
) -> tuple[Coordinator, Close]:
    """Return a coordinator for an app of this process, and what closes its connection. `loop` runs its tasks."""
    from runyard_client.worker.coordinator.coordinator import Coordinator  # noqa: PLC0415 - as above
    from runyard_client.worker.executors.executor_group import ExecutorGroup, child_settings, make_child  # noqa: PLC0415
    from runyard_client.worker.executors.links import LocalLink  # noqa: PLC0415
    from runyard_client.worker.executors.loading import app_reference  # noqa: PLC0415

    def make_local(slots: int) -> LocalLink:
        return LocalLink(app, capacity=slots, loop=loop, settings=child_settings(settings))

    make_main = make_child(settings, app_reference(app)) if settings.processes else make_local
    transport = app.make_transport()
    executors = ExecutorGroup(settings, make_main, lambda: app_reference(app))
    return Coordinator(transport, executors, settings), transport.close


def run_worker(app: Runyard, **settings: Any) -> int:
    """Run a worker with this app until SIGINT or SIGTERM, and return its exit code. Blocks; needs the main thread."""
    settings.setdefault("processes", 0)
    return asyncio.run(run_worker_until_signal(app, WorkerSettings.from_environment(**settings)))


async def run_worker_until_signal(app: Runyard, settings: WorkerSettings) -> int:
    """Run a worker on this loop, which must be that of the main thread, and return its exit code."""
    from runyard_client.worker.os_signals import handle_signals  # noqa: PLC0415 - programs that only enqueue do not need it

    worker = Worker(app)
    worker.settings = settings
    handle_signals(worker.request_stop)
    try:
        async with worker:
            await worker.wait()
    except WorkerFailed as error:
        return error.code
    return 0
