"""Stepped clocks change the wall clock of running processes, and no clock that measures durations."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.clocks import SteppedClock, find_faketime

pytestmark = [pytest.mark.processes, pytest.mark.skipif(find_faketime() is None, reason="libfaketime is not installed")]

READ_CLOCKS = """
import time
while input():
    print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""


def test_a_step_changes_the_wall_clock_of_a_running_process_alone(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    differences: list[tuple[int, int, int]] = []
    with subprocess.Popen(
        [sys.executable, "-c", READ_CLOCKS],
        env=os.environ | clock.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for offset in (0, 300, -3600, 0):
            clock.step_to(offset)
            print("read", file=process.stdin, flush=True)
            wall, monotonic, boot = map(float, process.stdout.readline().split())
            real = (time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
            # Minutes: a busy machine may take seconds for a response.
            differences.append(
                tuple(round((read - now) / 60) for read, now in zip((wall, monotonic, boot), real, strict=True))
            )
        process.kill()
    clock.remove_shared_memory(process.pid)

    assert differences == [(0, 0, 0), (5, 0, 0), (-60, 0, 0), (0, 0, 0)]
