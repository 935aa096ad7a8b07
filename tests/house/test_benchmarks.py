"""The benchmarks: what they seed is what the server would have written, and all of them run, on both kinds of database."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from benchmarks.population import Part, Size, population
from benchmarks.recording import open_database
from benchmarks.seed import seed
from benchmarks.workloads import WORKLOADS
from db import flow_runs, states, task_runs
from db.connection import Connection
from db.records import RunRecord, StateRecord
from resolvers.orchestration.engine import enter
from resolvers.orchestration.transition import ProposedState

TINY = Size(task_runs=200, flow_runs=8, flows=4)


@pytest.fixture
def seeded(database_url: str) -> str:
    """The URL of a database with a tiny population."""
    seed(database_url, TINY)
    return database_url


def whole(size: Size) -> Part:
    """All parts of a population in one."""
    all = Part([], [], [], [], [], [])
    for part in population(size):
        for name in Part.__slots__:
            getattr(all, name).extend(getattr(part, name))
    return all


def replayed(run: RunRecord, history: list[StateRecord]) -> RunRecord:
    """The run as the server's own bookkeeping would have left it after these states."""
    again = replace(
        run,
        **dict.fromkeys(["state_id", "state_type", "state_name", "state_timestamp", "next_scheduled_start_time"]),
        **dict.fromkeys(["expected_start_time", "start_time", "end_time", "state"]),
        run_count=0,
        total_run_time_seconds=0.0,
        updated=run.created,
        read_at="",
    )
    for state in history:
        proposed = ProposedState(state.type, state.name, state.message, state.data, state.details)
        made = enter(again, proposed, state.timestamp)
        assert replace(made, id=state.id) == state
        again.state_id = state.id
    again.state = history[-1]
    return again


async def test_every_seeded_run_has_the_figures_that_its_states_add_up_to(seeded: str) -> None:
    made = whole(TINY)

    def read(connection: Connection) -> int:
        found = task_runs.task_runs_by_id(connection, [run.id for run in made.task_runs])
        histories = states.task_run_histories(connection, list(found))
        parents = flow_runs.flow_runs_by_id(connection, [run.id for run in made.flow_runs])
        parent_histories = states.flow_run_histories(connection, list(parents))
        assert len(parents) == TINY.flow_runs
        for run, history in [
            *((run, histories[run.id]) for run in found.values()),
            *((run, parent_histories[run.id]) for run in parents.values()),
        ]:
            again = replayed(run, history)
            assert replace(again, read_at=run.read_at) == run
        return len(found)

    database = await open_database(seeded)
    try:
        assert await database.read(read) == TINY.task_runs * 11 // 10
    finally:
        await database.close()


def run_quickly(kind: str, report: Path, request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", kind, "--json", str(report)]
    if kind == "postgresql":
        command += ["--database-url", request.getfixturevalue("postgresql").url_of("postgres")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_every_workload_runs_and_has_the_bare_driver_beside_it(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ran = run_quickly(database_kind, tmp_path / "report.json", request)

    assert ran.returncode == 0, ran.stderr
    found = orjson.loads((tmp_path / "report.json").read_bytes())["databases"][database_kind]
    assert sorted([*found["workloads"], *found["skipped"]]) == sorted(each.name for each in WORKLOADS)
    for name, each in found["workloads"].items():
        assert len(each["rounds"]["cpu_ms"]) == len(each["rounds"]["bare_ms"]) == 1
        assert f"\n{name} " in ran.stdout
