"""The systems that are compared: each with its server, its database, and the command of its worker."""

import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.environments import environment_python, installed_version
from benchmarks.processes import BenchmarkFailed, ProcessTree
from benchmarks.services import REPOSITORY, PostgreSQL, Service, postgresql, redis, runyard_server

PROGRAMS = Path(__file__).parent / "programs"
CLIENT = REPOSITORY / "clients" / "python"
CONCURRENCY = "20"


@dataclass(frozen=True, slots=True)
class System:
    """A system whose services run. The client and the worker are started by the measurement."""

    name: str
    python: Path
    module: str
    """Module in `programs` with the tasks and the client."""
    imports: str
    """Import statement of a program that enqueues."""
    worker: list[str | Path]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    server: Service | None = None
    database: ProcessTree | None = None
    has_results: bool = True
    reports_killed_children: bool = False
    """Whether a client learns at once that the process of its run was killed."""

    @property
    def client(self) -> list[str | Path]:
        return [self.python, PROGRAMS / "client.py", self.module]


class Workbench:
    """A folder for all files of the benchmark, and the PostgreSQL server that the systems share."""

    def __init__(self, stack: ExitStack, folder: Path, environments: Path) -> None:
        self.folder = folder
        self.environments = environments
        self._stack = stack
        self._postgresql: PostgreSQL | None = None

    def new_folder(self, name: str) -> Path:
        return Path(mkdtemp(prefix=f"{name}-", dir=self.folder))

    @property
    def postgresql(self) -> PostgreSQL:
        """The PostgreSQL server, which is started at its first use."""
        if self._postgresql is None:
            self._postgresql = self._stack.enter_context(postgresql())
        return self._postgresql


@contextmanager
def runyard(workbench: Workbench, *, on_postgresql: bool, processes: int) -> Generator[System]:
    folder = workbench.new_folder("runyard")
    if on_postgresql:
        url = workbench.postgresql.create_database().replace("postgresql://", "postgresql+asyncpg://")
    else:
        url = f"sqlite+aiosqlite:///{folder}/runyard.db"
    python = Path(sys.executable)
    start_worker = "import sys; from runyard_client.worker.cli import main; sys.exit(main())"
    options = ["kit_tasks:runyard", "--concurrency", CONCURRENCY, "--processes", str(processes)]
    with runyard_server(folder, url) as server:
        yield System(
            f"runyard-client, {'PostgreSQL' if on_postgresql else 'SQLite'}, --processes {processes}",
            python,
            "kit_tasks",
            "from runyard_client import Runyard",
            [python, "-c", start_worker, *options],
            {"RUNYARD_URL": server.url, "PYTHONPATH": f"{CLIENT}:{PROGRAMS}"},
            server,
            workbench.postgresql.processes if on_postgresql else None,
            reports_killed_children=processes > 0,
        )


@contextmanager
def celery(workbench: Workbench, *, pool: str, concurrency: str) -> Generator[System]:
    python = environment_python(workbench.environments, "celery")
    with redis(workbench.new_folder("redis")) as broker:
        yield System(
            f"Celery {installed_version(python, 'celery')}, Redis, {concurrency} {pool}",
            python,
            "celery_tasks",
            "from celery import Celery; Celery()",
            [python, "-m", "celery", "-A", "celery_tasks", "worker", "-P", pool, "-c", concurrency],
            {"BENCHMARK_REDIS": broker.url, "PYTHONPATH": str(PROGRAMS)},
            database=broker.processes,
        )


@contextmanager
def procrastinate(workbench: Workbench) -> Generator[System]:
    python = environment_python(workbench.environments, "procrastinate")
    variables = {
        "BENCHMARK_POSTGRESQL": workbench.postgresql.create_database(),
        "BENCHMARK_COUNTED": "/dev/null",
        "BENCHMARK_STAMPED": "/dev/null",
        "PYTHONPATH": str(PROGRAMS),
    }
    command: list[str | Path] = [python, "-m", "procrastinate", "--app", "procrastinate_tasks.app"]
    created = subprocess.run(
        [*command, "schema", "--apply"], env=variables, check=False, capture_output=True, text=True
    )
    if created.returncode:
        raise BenchmarkFailed(f"Procrastinate did not create its tables: {created.stderr[-500:]}")
    yield System(
        f"Procrastinate {installed_version(python, 'procrastinate')}, PostgreSQL",
        python,
        "procrastinate_tasks",
        "import procrastinate",
        [*command, "worker", "--concurrency", CONCURRENCY],
        variables,
        database=workbench.postgresql.processes,
        has_results=False,
    )


SYSTEMS: dict[str, Callable[[Workbench], AbstractContextManager[System]]] = {
    "sqlite-1": partial(runyard, on_postgresql=False, processes=1),
    "sqlite-0": partial(runyard, on_postgresql=False, processes=0),
    "postgresql-1": partial(runyard, on_postgresql=True, processes=1),
    "postgresql-0": partial(runyard, on_postgresql=True, processes=0),
    "celery-threads": partial(celery, pool="threads", concurrency=CONCURRENCY),
    "celery-processes": partial(celery, pool="prefork", concurrency="2"),
    "procrastinate": procrastinate,
}
"""What can be measured, by the name on the command line. The first one is also the system whose idle worker is watched."""
