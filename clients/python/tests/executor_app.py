"""Tasks for the tests of executors. Child processes import this file."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from runyard_client import Runyard, current_run

loops: list[asyncio.AbstractEventLoop] = []
app = Runyard("http://127.0.0.1:9")

if "RUNYARD_TEST_BROKEN" in os.environ:
    raise RuntimeError("this module is broken")


def tell(path, text):
    """Add a line to a file, in one write: processes do not mix their lines."""
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


@app.task(key="add")
async def add(first: int, second: int = 2) -> int:
    return first + second


@app.task(key="add-thread")
def add_thread(first: int, second: int = 2) -> int:
    return first + second


@app.task(key="add-process", pool="process")
def add_process(first: int, second: int = 2) -> int:
    return first + second


@app.task(key="process-id")
async def process_id() -> int:
    return os.getpid()


@app.task(key="process-id-process", pool="process")
def process_id_process() -> int:
    return os.getpid()


@app.task(key="big")
async def big(size: int) -> str:
    return "x" * size


@app.task(key="length")
async def length(text: str) -> int:
    return len(text)


@app.task(key="print")
async def print_text(text: str):
    print(text, flush=True)
    print(text, file=sys.stderr, flush=True)
    logging.getLogger("user").warning("logged %s", text)


@app.task(key="sleep")
async def sleep(path: str):
    tell(path, "begun")
    await asyncio.sleep(600)


@app.task(key="block-loop")
async def block_loop(path: str):
    tell(path, os.getpid())
    time.sleep(600)  # noqa: ASYNC251 - it blocks the loop on purpose


@app.task(key="hold-gil")
async def hold_gil(path: str, seconds: int):
    tell(path, os.getpid())
    ctypes.PyDLL(None).sleep(seconds)


@app.task(key="kill-child")
async def kill_child(number: int = signal.SIGKILL):
    os.kill(os.getpid(), number)
    await asyncio.sleep(600)


@app.task(key="exit-child")
async def exit_child(code: int):
    os._exit(code)


@app.task(key="kill-child-process", pool="process")
def kill_child_process(number: int = signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(600)


@app.task(key="exit-in-background")
async def exit_in_background() -> str:
    await asyncio.wait([asyncio.create_task(raise_exit())])
    return "continued"


async def raise_exit():
    raise SystemExit(3)


@app.task(key="looks", pool="process")
def looks(path: str) -> str:
    tell(path, "begun")
    current_run().wait_cancelled()
    return "stopped early"


@app.task(key="waits-for-file", pool="process")
def waits_for_file(path: str, until: str) -> str:
    tell(path, "begun")
    while not Path(until).exists():
        time.sleep(0.01)
    return "whole"


@app.task(key="checks", pool="process")
def checks(path: str):
    tell(path, "begun")
    current_run().wait_cancelled()
    current_run().check()


@app.task(key="cleans-up", pool="process", grace=0.1)
def cleans_up(path: str):
    tell(path, "begun")
    try:
        while True:
            time.sleep(600)
    finally:
        tell(path, "cleaned up")


@app.task(key="stubborn", pool="process", grace=0.1)
def stubborn(path: str):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(path, "begun")
    while True:
        time.sleep(600)


@app.task(key="over-time", pool="process", grace=0.1, timeout=0.2)
def over_time():
    time.sleep(600)


@app.task(key="async-process", pool="process")
async def async_process(value: int) -> int:
    await asyncio.sleep(0)
    return value


@app.task(key="async-sleep", pool="process")
async def async_sleep(path: str):
    tell(path, "begun")
    try:
        await asyncio.sleep(600)
    finally:
        tell(path, "cleaned up")


@app.task(key="async-block", pool="process", grace=0.1)
async def async_block(path: str):
    tell(path, "begun")
    try:
        while True:
            time.sleep(600)  # noqa: ASYNC251 - it blocks the loop on purpose
    finally:
        tell(path, "cleaned up")


@app.task(key="loop-of-hooks", pool="process")
async def loop_of_hooks() -> bool:
    current_run()
    return asyncio.get_running_loop() is loops[0]


@app.task(key="reports", pool="process")
def reports(steps: int):
    for step in range(1, steps + 1):
        current_run().progress(step, steps, "working")


@app.task(key="stuck-thread", grace=0.05)
def stuck_thread(path: str):
    tell(path, "begun")
    threading.Event().wait()


@app.task(key="state")
async def state() -> str:
    return current_run().state


@app.on_worker_start
async def connect():
    loops.append(asyncio.get_running_loop())
    path = os.environ.get("RUNYARD_TEST_HOOKS")
    if path:
        tell(path, "start")
    yield "connected"
    if path:
        tell(path, "stop")
