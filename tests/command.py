"""Run the `runyard` command in a process."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.client import TIMEOUT_SECONDS


def runyard(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder, with these environment variables and no other setting, and wait until it ends."""
    return subprocess.run(
        _command(arguments),
        env=_environment(variables),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def runyard_at(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that uses the server at the URL, and wait until it ends."""
    return await asyncio.to_thread(runyard, *arguments, folder=Path(), RUNYARD_URL=url, **variables)


@asynccontextmanager
async def running_runyard(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command during the block, with pipes for its output, and kill it afterwards if it is still running."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *_command(arguments), env=_environment(variables), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_line(stream: asyncio.StreamReader | None) -> str:
    """Return the next line of a process's output, without its end. Fails on a timeout."""
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), 3 * TIMEOUT_SECONDS)).decode().rstrip("\n")


async def runyard_on_terminal(url: str, *arguments: str, typed: str = "", columns: int = 80) -> tuple[int, str]:
    """Run a command on a terminal, type the text, and return its exit code and what the terminal received."""
    return await asyncio.to_thread(_run_on_terminal, url, arguments, typed, columns)


def _run_on_terminal(url: str, arguments: tuple[str, ...], typed: str, columns: int) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    try:
        environment = _environment({"RUNYARD_URL": url, "TERM": "xterm", "COLUMNS": str(columns)})
        process = subprocess.Popen(_command(arguments), env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        try:
            os.close(theirs)
            os.write(ours, typed.encode())
            output = _read_until_closed(ours)
            return process.wait(timeout=3 * TIMEOUT_SECONDS), output.replace("\r\n", "\n")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        os.close(ours)


def _read_until_closed(terminal: int) -> str:
    output = b""
    try:
        while data := os.read(terminal, 65_536):
            output += data
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    return output.decode()


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "runyard", *arguments]


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")} | variables
