"""Other processes that use the same SQLite file."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.client import TIMEOUT_SECONDS


@contextmanager
def python_process(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run `program` in a Python process, wait until it prints `ready`, and kill it at the end of the block."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n", started.communicate(timeout=TIMEOUT_SECONDS)
            yield started
        finally:
            started.kill()


def resume(process: "subprocess.Popen[str]") -> None:
    """Write the line that the process waits for."""
    assert process.stdin is not None
    process.stdin.write("resume\n")
    process.stdin.flush()


HOLD_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""
"""Program that holds the write lock of the file from `ready` until it reads a line."""
