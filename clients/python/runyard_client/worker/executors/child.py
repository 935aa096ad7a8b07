"""The main program of a child process, which the worker starts: `python -m runyard_client.worker.executors.child …`."""

from __future__ import annotations

import signal


def ignore_signal(number: int, frame: object) -> None:
    """Ignore a signal. Programs that tasks start do not inherit this, unlike SIG_IGN."""


# First of all: Ctrl-C in a terminal and the SIGTERM of a service manager are for the parent, which drains its children.
for _number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, ignore_signal)

import argparse  # noqa: E402
import asyncio  # noqa: E402
import importlib  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import orjson  # noqa: E402

from runyard_client.log import install_logging  # noqa: E402
from runyard_client.worker.executors.child_process import ChildSettings  # noqa: E402
from runyard_client.worker.executors.executor import Executor, failure_message  # noqa: E402
from runyard_client.worker.executors.loading import load_app, source_folders  # noqa: E402
from runyard_client.worker.executors.mailbox import Mailbox  # noqa: E402
from runyard_client.worker.executors.parent_watch import watch_parent  # noqa: E402
from runyard_client.worker.executors.pipes import PipeReader, PipeWriter  # noqa: E402

EXIT_FAILED = 1

logger = logging.getLogger("runyard_client.worker")


def read_arguments() -> argparse.Namespace:
    """Read the command line, which `child_process.spawn_child` writes."""
    parser = argparse.ArgumentParser(
        prog="runyard_client.worker.executors.child", description="Started by runyard-worker."
    )
    parser.add_argument("app")
    parser.add_argument("--pool", choices=["main", "process"], default="main")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--receive-fd", type=int, required=True)
    parser.add_argument("--send-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--log-format", default="auto")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--cancel-repeat-seconds", type=float, default=5.0)
    parser.add_argument("--kill-after-seconds", type=float, default=5.0)
    parser.add_argument("--report-folders", action="store_true")
    return parser.parse_args()


def read_first_message(fd: int) -> Any:
    """Read the message `init`, and no byte more. Returns None if the parent has died."""
    with open(fd, "rb", buffering=0, closefd=False) as file:
        line = file.readline()  # without a buffer, it reads one byte at a time
    return orjson.loads(line) if line else None


def write_message(fd: int, message: Any) -> None:
    """Write a message and wait until it is written."""
    with open(fd, "wb", closefd=False) as file:
        file.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))


def main() -> int:
    """Import the app and execute runs until the parent says `stop` or dies. Returns the exit code."""
    arguments = read_arguments()
    for fd in (arguments.receive_fd, arguments.send_fd):
        os.set_inheritable(fd, False)  # programs that tasks start must not hold the pipes open
    init = read_first_message(arguments.receive_fd)
    if init is None:
        return EXIT_FAILED
    sys.path[:] = init["path"]
    try:
        app = load_app(arguments.app)
    except BaseException as error:  # noqa: BLE001 - the parent reports it, also SystemExit
        write_message(arguments.send_fd, failure_message(error))
        return EXIT_FAILED
    install_logging(arguments.log_format)  # after the import, which may configure logging
    return run_process(app, arguments) if arguments.pool == "process" else run_main(app, arguments)


def run_process(app: Any, arguments: argparse.Namespace) -> int:
    """Execute one run at a time, on this thread."""
    from runyard_client.worker.executors.process_runner import ProcessRunner  # noqa: PLC0415 - other children do not need it

    runner = ProcessRunner(app, arguments.receive_fd, arguments.send_fd)
    watch_parent(arguments.parent_pid, lambda: runner.stop_all("lease_lost"))
    runner.run()
    return 0


def run_main(app: Any, arguments: argparse.Namespace) -> int:
    """Execute the runs of the pools `loop` and `thread`."""
    loop = new_event_loop(use_uvloop=arguments.uvloop)
    asyncio.set_event_loop(loop)
    writer = PipeWriter(loop, arguments.send_fd)
    settings = ChildSettings(
        cancel_repeat_seconds=arguments.cancel_repeat_seconds, kill_after_seconds=arguments.kill_after_seconds
    )
    fields = {"folders": source_folders()} if arguments.report_folders else {}
    executor = Executor(
        app, concurrency=arguments.concurrency, send=writer.send, settings=settings, ready_fields=fields
    )

    def stop_all() -> None:
        executor.stop_all("lease_lost")

    running = loop.create_task(executor.run())
    PipeReader(loop, arguments.receive_fd, executor.receive, stop_all)
    mailbox = Mailbox(loop)
    watch_parent(arguments.parent_pid, lambda: mailbox.post(stop_all))
    run_until_complete(loop, running)
    writer.flush_blocking()
    return 0


def new_event_loop(*, use_uvloop: bool) -> asyncio.AbstractEventLoop:
    """Return a new event loop. Raises ImportError if uvloop is requested and not installed."""
    if not use_uvloop:
        return asyncio.new_event_loop()
    uvloop: Any = importlib.import_module("uvloop")  # optional
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run_until_complete(loop: asyncio.AbstractEventLoop, running: asyncio.Task[None]) -> None:
    """Run the loop until the task is done. A SystemExit or KeyboardInterrupt of a task of the user does not end it."""
    while not running.done():
        try:
            loop.run_until_complete(running)
        except (SystemExit, KeyboardInterrupt) as error:
            if running.done():
                raise
            logger.error("A background task raised %s, which is ignored", type(error).__name__, exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
