"""Benchmarks: seeded data equals what the server would write, and every workload runs on both kinds of database."""

import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import orjson
import psutil
import pytest

from benchmarks.client import Client, document_request, request
from benchmarks.population import PopulationSize, RowBatch, population
from benchmarks.recording import open_database
from benchmarks.report import Samples, compare, summarize
from benchmarks.running import exit_on_faults
from benchmarks.seed import seed
from benchmarks.servers import cpu_seconds_of
from benchmarks.workloads import WORKLOADS
from db.connection import Connection
from db.enums import StateType
from db.records import RunRecord, StateRecord
from db.runtime.ids import canonical_id
from db.runtime.timestamps import parse_timestamp
from db.statements import flow_runs, queue, states, task_runs
from resolvers.orchestration.transition import ProposedState
from resolvers.transitions.enter_state import enter_state
from tests.serving import POSTGRESQL_ONLY, RunningServer

pytestmark = pytest.mark.processes

TINY = PopulationSize(task_runs=200, flow_runs=8, flows=4)


@pytest.fixture
def seeded(database_url: str) -> str:
    """The URL of a database seeded with a tiny population."""
    seed(database_url, TINY)
    return database_url


def merged_population(size: PopulationSize) -> RowBatch:
    """Merge all parts of a population into one."""
    one = RowBatch([], [], [], [], [], [])
    for part in population(size):
        for each in fields(RowBatch):
            getattr(one, each.name).extend(getattr(part, each.name))
    return one


def replay(run: RunRecord, history: list[StateRecord]) -> RunRecord:
    """Return the run as the server updates it while entering these states."""
    nothing = dict.fromkeys(["state_id", "state_type", "state_name", "state_timestamp", "next_scheduled_start_time"])
    replayed = replace(
        run,
        **nothing,
        **dict.fromkeys(["expected_start_time", "start_time", "end_time", "state"]),
        run_count=0,
        total_run_time_seconds=0.0,
        updated=run.created,
    )
    for state in history:
        proposed = ProposedState(state.type, state.name, state.message, state.data, state.details)
        entered = enter_state(replayed, proposed, state.timestamp)
        assert replace(entered, id=state.id) == state
        replayed.state_id = state.id
    replayed.state, replayed.read_at = history[-1], run.read_at
    return replayed


async def test_every_seeded_run_matches_its_state_history(seeded: str) -> None:
    seeded_rows = merged_population(TINY)

    def read(connection: Connection) -> list[tuple[RunRecord, list[StateRecord]]]:
        runs = task_runs.task_runs_by_id(connection, [run.id for run in seeded_rows.task_runs])
        histories = states.task_run_histories(connection, list(runs))
        parents = flow_runs.flow_runs_by_id(connection, [run.id for run in seeded_rows.flow_runs])
        histories |= states.flow_run_histories(connection, list(parents))
        return [(run, histories[run.id]) for run in (*runs.values(), *parents.values())]

    database = await open_database(seeded)
    try:
        found = await database.read(read)
    finally:
        await database.close()

    assert len(found) == TINY.task_runs * 11 // 10 + TINY.flow_runs
    assert {len(history) for _, history in found} == {2, 3, 4}
    for run, history in found:
        assert replay(run, history) == run


async def test_exactly_the_scheduled_background_runs_are_queued(seeded: str) -> None:
    waiting = {
        run.id: run.next_scheduled_start_time
        for run in merged_population(TINY).task_runs
        if run.flow_run_id is None and run.state_type is StateType.SCHEDULED
    }

    database = await open_database(seeded)
    try:
        ids = [run.id for run in merged_population(TINY).task_runs]
        entries = await database.read(lambda connection: queue.queue_entries_by_run(connection, ids))
    finally:
        await database.close()

    assert waiting
    assert {id: entry.available_at for id, entry in entries.items()} == waiting
    assert {(entry.is_retry, entry.attempt, entry.lease_id) for entry in entries.values()} == {(True, 1, None)}


def test_the_population_is_determined_by_its_seed() -> None:
    assert merged_population(TINY) == merged_population(TINY)
    assert merged_population(TINY) != merged_population(replace(TINY, seed=1))


def test_a_seeded_id_contains_the_creation_time_of_its_row() -> None:
    seeded_rows = merged_population(TINY)
    created = [(each.id, each.created) for each in (*seeded_rows.flows, *seeded_rows.flow_runs, *seeded_rows.task_runs)]
    created += [(each.id, each.timestamp) for each in (*seeded_rows.flow_run_states, *seeded_rows.task_run_states)]

    for id, timestamp in created:
        assert canonical_id(id) == id
        assert id[14] == "7"
        assert int(id[:8] + id[9:13], 16) == int(parse_timestamp(timestamp).timestamp() * 1000)
    assert len({id for id, _ in created}) == len(created)


def test_every_workload_runs_and_is_compared_with_the_bare_driver(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", database_kind, "--json", "report.json"]
    if database_kind == "postgresql":
        command += ["--database-url", request.getfixturevalue("postgresql").url_of("postgres")]

    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr
    found = orjson.loads((tmp_path / "report.json").read_bytes())["databases"][database_kind]
    assert sorted([*found["workloads"], *found["skipped"]]) == sorted(each.name for each in WORKLOADS)
    for name, each in found["workloads"].items():
        assert len(each["rounds"]["cpu_ms"]) == len(each["rounds"]["bare_ms"]) == 1
        assert f"\n{name} " in ran.stdout


@POSTGRESQL_ONLY
def test_the_benchmark_of_waiting_requests_prints_its_marks(database_url: str) -> None:
    sizes = ["--waits", "4", "--rounds", "1", "--changes", "2", "--ends", "2", "--idle-seconds", "0.1"]
    command = [sys.executable, "-m", "benchmarks.waits", "--database-url", database_url, *sizes]

    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("4 requests on endedTaskRuns and 4 on leaseSignals, at two servers: ")
    for mark in ("% of a core; mark: 1.0 %", "without them; mark: 1.1", "(median of 2); mark: 50.0 ms"):
        assert ran.stdout.count(mark) == 1


async def test_an_unexpected_response_stops_the_benchmark(server: RunningServer) -> None:
    client = Client(int(server.client.url.rpartition(":")[2]))
    await client.send(request("{ taskRuns { totalCount } }"))
    exit_on_faults("good", client)

    await client.send(request("{ nothingOfTheKind }"))
    await client.send(document_request("CreateTaskRun", b'"created":false', input={"taskKey": "t"}))
    client.close()

    with pytest.raises(SystemExit, match=r"bad: 2 unexpected responses; the first: .*nothingOfTheKind"):
        exit_on_faults("bad", client)


def test_the_cpu_time_of_a_process_equals_its_own_measurement() -> None:
    before = time.process_time()
    found = cpu_seconds_of(psutil.Process())

    # Without nanosecond accounting, the system counts CPU time in ticks, and user and system time separately.
    error = 2 / os.sysconf("SC_CLK_TCK")
    assert before - error <= found <= time.process_time() + error


def test_two_reports_are_compared_by_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, cpu in (("old", 2.0), ("new", 3.0)):
        samples = Samples("a title", cpu_ms=[cpu, cpu, 9.0], bare_ms=[0.5, 0.5, 0.1], wall_ms=[4.0, 4.0, 4.0])
        found = {"task_runs": 200, "workloads": {"P": summarize(samples)}, "figures": {"idle": 4.0}}
        (tmp_path / name).write_bytes(orjson.dumps({"databases": {"sqlite": found}}))

    compare(tmp_path / "old", tmp_path / "new")

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == ["P", "a", "title", "4.00", "6.00", "+50", "%", "2.00", "3.00", "+50", "%"]
    assert lines[3] == ["idle:", "4.00", "->", "4.00", "(+0", "%)"]
