"""Processes that are measured: their CPU time, memory and output."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 60.0
"""Time limit for the start of a process."""


class BenchmarkFailed(Exception):
    """A system could not be measured. The other systems are measured nevertheless."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time in seconds."""

    own: float
    """Of the process itself."""
    children: float
    """Of all its descendants, ended ones included."""

    @property
    def total(self) -> float:
        return self.own + self.children

    def __sub__(self, earlier: "CpuTimes") -> "CpuTimes":
        return CpuTimes(self.own - earlier.own, self.children - earlier.children)


class ProcessTree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu_times(self) -> CpuTimes:
        ended = self._process.cpu_times()
        children = ended.children_user + ended.children_system
        for child in self._process.children(recursive=True):
            try:
                children += _cpu_seconds_of(child)
            except (psutil.NoSuchProcess, OSError):
                continue
        return CpuTimes(_cpu_seconds_of(self._process), children)

    def memory_mib(self) -> tuple[float, list[float]]:
        """Return the resident memory of the process, and of each of its children."""
        children = [child.memory_info().rss / 2**20 for child in self._process.children(recursive=True)]
        return self._process.memory_info().rss / 2**20, children

    def kill_children(self) -> None:
        for child in self._process.children(recursive=True):
            child.kill()


def _cpu_seconds_of(process: psutil.Process) -> float:
    """Return the CPU time of all threads of a process, in seconds: to the nanosecond on Linux, elsewhere to 1/100 s."""
    if sys.platform == "linux":
        # The clock id of clock_getcpuclockid(3), which Python does not provide.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def run_process(
    command: Sequence[str | Path],
    variables: Mapping[str, str],
    log: Path,
    *,
    is_ready: Callable[[], bool],
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Generator[ProcessTree]:
    """Run a command until the block ends. Its output goes to the file `log`.

    Raises:
        BenchmarkFailed: the process ended, or `is_ready` was not true within START_SECONDS.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    with log.open("wb") as output:
        process = psutil.Popen(
            [str(each) for each in command],
            env={**inherited, **variables},
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )
    try:
        wait_until(lambda: is_ready() or process.poll() is not None, f"the start of {command[0]}", START_SECONDS)
        if process.poll() is not None:
            raise BenchmarkFailed(f"{' '.join(map(str, command))} ended: {log.read_text()[-2000:]}")
        yield ProcessTree(process.pid)
    finally:
        stop(process, stop_signal)


def stop(process: psutil.Popen, number: signal.Signals) -> None:
    """Stop a process and its children: with this signal, and after 10 seconds with SIGKILL."""
    if process.poll() is not None:
        return
    tree = [process, *process.children(recursive=True)]
    process.send_signal(number)
    _, remaining = psutil.wait_procs(tree, timeout=10)
    for each in remaining:
        each.kill()
    process.wait()


def wait_until(condition: Callable[[], bool], what: str, seconds: float, interval: float = 0.002) -> None:
    """Wait until the condition is true. Raises BenchmarkFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"waited {seconds:.0f} s for {what}")
        time.sleep(interval)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return False
    return True
