"""An app for tests of the worker's command. Its task keys end with the variable WORKER_TEST_KEY."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from runyard_client import Runyard, current_run

runyard = Runyard()
suffix = os.environ.get("WORKER_TEST_KEY", "")
folder = Path(os.environ.get("WORKER_TEST_FOLDER", "."))


def key(name: str) -> str:
    return name + suffix


def mark(name: str) -> None:
    """Add a line to the file of a run: tests see how often it was executed."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


async def wait_for(name: str) -> None:
    while not (folder / name).exists():  # noqa: ASYNC110 - the test creates the file
        await asyncio.sleep(0.02)


@runyard.task(key=key("add"))
async def add(a: int, b: int) -> int:
    mark(current_run().id)
    return a + b


@runyard.task(key=key("wait"))
async def wait(name: str) -> str:
    """Return when a file exists."""
    mark(current_run().id)
    await wait_for(name)
    return name


@runyard.task(key=key("endless"))
async def endless() -> None:
    mark(current_run().id)
    await asyncio.Event().wait()


@runyard.task(key=key("die"))
async def die() -> None:
    mark(current_run().id)
    os.kill(os.getpid(), signal.SIGKILL)


@runyard.task(key=key("block"))
async def block(name: str) -> str:
    """Block the event loop until a file exists."""
    mark(current_run().id)
    while not (folder / name).exists():
        time.sleep(0.02)  # noqa: ASYNC251 - the point of this task
    return name


@runyard.task(key=key("hold-gil"))
async def hold_gil(length: int) -> None:
    """Hold the GIL for some seconds."""
    mark(current_run().id)
    hold_the_gil(length)


def hold_the_gil(length: int) -> None:
    """Match one regular expression, whose time doubles with each character."""
    re.match(r"(a+)+$", "a" * length + "b")


@runyard.task(key=key("stubborn"))
def stubborn(name: str) -> str:
    """Occupy a thread until a file exists, whatever happens."""
    mark(current_run().id)
    while not (folder / name).exists():
        time.sleep(0.02)
    return name


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@runyard.task(key=key("bad"))
async def bad(kind: str) -> Any:
    if kind == "raises":
        raise Unprintable
    return {"large": "x" * 20_000_000, "object": object(), "nan": float("nan")}[kind]


@runyard.task(key=key("tagged"), tags=[key("one")])
async def tagged() -> None:
    mark(current_run().id)
    await asyncio.sleep(0.1)
