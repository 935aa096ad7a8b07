"""The background loop of a process: forks, the exit of the program, and event loops that come and go."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import faulty_proxy
from runyard_client import Runyard
from runyard_client.connection import background
from runyard_client.testing.server import RunyardServer

CLIENT = Path(__file__).parent.parent
TASK = """
import asyncio, os, sys
from runyard_client import Runyard

runyard = Runyard(sys.argv[1])

@runyard.task(key=sys.argv[2])
async def echo(value): ...
"""


def run_program(server_url: str, key: str, program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with the task `echo`, and show what it leaves unclosed."""
    return subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", TASK + program, server_url, key],
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PROGRAMS = {
    "enqueues": "asyncio.run(echo.enqueue(1))",
    "enqueues without an event loop": "echo.enqueue_sync(1)",
    "waits in vain": """
async def main():
    try:
        await (await echo.enqueue(1)).result(timeout=0.05)
    except TimeoutError:
        pass
asyncio.run(main())
""",
    "uses two event loops": "asyncio.run(echo.enqueue(1)); asyncio.run(echo.enqueue(2))",
    "closes the app": "echo.enqueue_sync(1); runyard.close_sync()",
    "sends nothing": "",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_without_a_warning(
    server: RunyardServer, unique_key: Callable[[str], str], program: str
) -> None:
    ended = run_program(server.url, unique_key("echo"), PROGRAMS[program])

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


ENDING = """
import atexit, threading
threading.Thread(target=echo.enqueue_sync, args=[1], daemon=True).start()
sys.stdin.readline()
# Called before what the client does at exit.
atexit.register(print, "ending", flush=True)
"""


async def test_the_end_of_a_program_waits_for_the_response_to_what_was_sent(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("echo")
    async with faulty_proxy(server.url) as proxy, asyncio.timeout(60):
        with proxy.hold("CreateTaskRuns") as hold:
            program = await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", TASK + ENDING, proxy.url, key],
                env={**os.environ, "PYTHONPATH": str(CLIENT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert program.stdin is not None
            assert program.stdout is not None
            await hold.arrived.wait()
            program.stdin.write(b"\n")
            assert await program.stdout.readline() == b"ending\n"
            with pytest.raises(TimeoutError):  # it does not end without the response
                await asyncio.wait_for(program.wait(), 0.5)
        _, errors = await program.communicate()

        assert (program.returncode, errors) == (0, b"")
        assert [request.status for request in proxy.requests] == [200, 200]


FORKING = """
parent = [echo.enqueue_sync(1).id]
child = os.fork()
ids = [echo.enqueue_sync(2).id, echo.enqueue_sync(3).id]
print(*ids, flush=True)
if child:
    _, status = os.waitpid(child, 0)
    print(echo.enqueue_sync(4).id, os.waitstatus_to_exitcode(status), flush=True)
"""


def test_a_forked_child_enqueues_by_its_own_connection(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    ended = run_program(server.url, unique_key("echo"), FORKING)

    words = ended.stdout.split()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert words[-1] == "0"
    assert len(set(words[:-1])) == 5


WAITING_FORK = """
import threading
handle = echo.enqueue_sync(1)
waiting = threading.Thread(target=handle.wait_sync)
waiting.start()
child = os.fork()
if not child:
    try:
        echo.enqueue_sync(2).wait_sync(0.05)
    except TimeoutError:
        print("child", flush=True)
    os._exit(0)
os.waitpid(child, 0)
handle.cancel_sync()
waiting.join(30)
print("parent", not waiting.is_alive(), flush=True)
"""


def test_a_fork_does_not_disturb_what_the_parent_waits_for(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    ended = run_program(server.url, unique_key("echo"), WAITING_FORK)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "child\nparent True\n", "")


def test_an_app_is_used_again_after_its_background_loop_was_stopped(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    app = Runyard(server.url)

    @app.task(key=unique_key("echo"))
    async def echo(value: int) -> int:
        return value

    first = echo.enqueue_sync(1)
    background.stop()
    assert not background.is_started()
    second = echo.enqueue_sync(2)

    assert {first.status_sync().type, second.status_sync().type} == {"SCHEDULED"}
    app.close_sync()
    assert echo.enqueue_sync(3).created
    app.close_sync()


def test_importing_the_client_starts_nothing_and_imports_no_http_library() -> None:
    program = "import sys, threading, runyard_client; print('aiohttp' in sys.modules, threading.active_count())"
    shown: Any = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout == "False 1\n"
