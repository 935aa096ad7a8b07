"""The command `runyard-worker`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from runyard_client.errors import RunyardError
from runyard_client.log import install_logging
from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import TokenSource
from runyard_client.transport.url import DEFAULT_URL
from runyard_client.worker.os_signals import handle_signals
from runyard_client.worker.settings import LOG_FORMATS, WorkerSettings, split_list

EXIT_USAGE = 2


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Flags that are not given are None: the environment or the default counts."""
    parser = argparse.ArgumentParser(
        prog="runyard-worker",
        description="Execute the task runs of an app. SIGTERM lets runs finish, a second one releases them, a third exits.",
        epilog="Each option can also be set by the environment: RUNYARD_WORKER_CONCURRENCY, RUNYARD_WORKER_DRAIN_SECONDS,"
        " and so on. The server is RUNYARD_URL (default: http://127.0.0.1:4200), the token RUNYARD_TOKEN or"
        " RUNYARD_TOKEN_FILE. Exit codes: 0 when the server knows about all runs, 1 otherwise, 2 for invalid options, 3 when"
        " the token is refused.",
    )
    add = parser.add_argument
    add("app", metavar="MODULE:APP", help="the app, such as shop.tasks:runyard")
    add("--url", help="URL of the server (default: RUNYARD_URL)")
    add("--concurrency", type=int, metavar="N", help="async and threaded runs at a time (default: 20)")
    add("--processes", type=int, metavar="N", help="child processes for these runs; 0: none (default: 1)")
    add("--cpu-processes", type=int, metavar="N", help="runs of the pool `process` at a time (default: number of CPUs)")
    add("--groups", type=split_list, metavar="GROUP,…", help="execute only tasks of these groups")
    add("--tasks", type=split_list, metavar="KEY,…", help="execute only tasks with these keys")
    add("--except", dest="except_", type=split_list, metavar="KEY,…", help="do not execute tasks with these keys")
    add("--lease-seconds", type=float, metavar="S", help="lease time of tasks without their own (default: 60)")
    add("--drain-seconds", type=float, metavar="S", help="how long runs may continue after SIGTERM (default: 25)")
    add("--recycle-runs", type=int, metavar="N", help="replace a child process after this many runs")
    add("--recycle-mib", type=int, metavar="MIB", help="replace a child process that uses more memory")
    add("--name", help="name of the worker at the server (default: host name and process id)")
    add("--reload", nargs="?", const="", metavar="DIR", help="restart the child processes when a file changes")
    add("--health", metavar="HOST:PORT", help="serve a health check over HTTP")
    add("--uvloop", action="store_true", default=None, help="use uvloop")
    add("--once", action="store_true", default=None, help="execute the runs that are due, then exit")
    add(
        "--log-format",
        choices=LOG_FORMATS,
        help="format of the log when the app does not configure one (default: auto)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it must stop, and return its exit code."""
    options = vars(make_parser().parse_args(arguments))
    reference, url = options.pop("app"), options.pop("url")
    try:
        settings = WorkerSettings.from_environment(**options)
        return run(reference, url or os.environ.get("RUNYARD_URL") or DEFAULT_URL, settings)
    except (RunyardError, ValueError) as error:
        print(f"runyard-worker: {error}", file=sys.stderr)
        return EXIT_USAGE


def run(reference: str, url: str, settings: WorkerSettings) -> int:
    """Run a worker for MODULE:APP. Raises ValueError for an invalid URL or reference."""
    install_logging(settings.log_format)
    if settings.processes == 0:
        return run_in_process(reference, url, settings)
    return run_loop(run_with_children(reference, url, settings), settings)


def run_loop(main: Any, settings: WorkerSettings) -> int:
    """Run a coroutine on the event loop that the settings ask for."""
    if not settings.uvloop:
        return int(asyncio.run(main))
    import uvloop  # noqa: PLC0415 - optional

    return int(uvloop.run(main))


def run_in_process(reference: str, url: str, settings: WorkerSettings) -> int:
    """Run tasks on the loop of the main thread, and the coordinator on another thread."""
    from runyard_client.worker import run_worker_until_signal  # noqa: PLC0415 - not needed with child processes
    from runyard_client.worker.executors.loading import load_app  # noqa: PLC0415 - not needed with child processes

    os.environ["RUNYARD_URL"] = url
    sys.path.insert(0, os.getcwd())
    return run_loop(run_worker_until_signal(load_app(reference), settings), settings)


async def run_with_children(reference: str, url: str, settings: WorkerSettings) -> int:
    """Run the coordinator here, and tasks in child processes, which import the app."""
    from runyard_client.worker.coordinator.coordinator import Coordinator  # noqa: PLC0415 - not needed for --help
    from runyard_client.worker.executors.executor_group import ExecutorGroup, make_child  # noqa: PLC0415

    os.environ["RUNYARD_URL"] = url  # children read it
    transport = Transport(url, TokenSource())
    executors = ExecutorGroup(settings, make_child(settings, reference), lambda: reference)
    coordinator = Coordinator(transport, executors, settings)
    handle_signals(coordinator.request_stop)
    try:
        return await coordinator.run()
    finally:
        await transport.close()


if __name__ == "__main__":
    sys.exit(main())
