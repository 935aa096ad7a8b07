"""Other processes that use the same file."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.client import PATIENCE


@contextmanager
def process(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that runs `program`, which says `ready` and then waits for a line. Killed in the end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n", started.communicate(timeout=PATIENCE)
            yield started
        finally:
            started.kill()


def go(waiting: "subprocess.Popen[str]") -> None:
    """Let the process go on."""
    assert waiting.stdin is not None
    waiting.stdin.write("go\n")
    waiting.stdin.flush()


HOLDS_THE_FILE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""
"""Holds the write lock of the file from `ready` until it is let go."""
