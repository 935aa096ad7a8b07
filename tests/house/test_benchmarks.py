"""The benchmarks: what they seed is what the server would have written, and they run, on both kinds of database."""

import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import orjson
import psutil
import pytest

from benchmarks.client import Client, named, request
from benchmarks.population import Part, Size, population
from benchmarks.recording import open_database
from benchmarks.report import Samples, compare, summary
from benchmarks.running import stop_at_faults
from benchmarks.seed import seed
from benchmarks.servers import cpu_seconds_of
from benchmarks.workloads import WORKLOADS
from db.connection import Connection
from db.enums import StateType
from db.records import RunRecord, StateRecord
from db.runtime.ids import canonical_id
from db.runtime.timestamps import moment
from db.statements import flow_runs, queue, states, task_runs
from resolvers.orchestration.decide import enter
from resolvers.orchestration.transition import ProposedState
from tests.serving import Serving

TINY = Size(task_runs=200, flow_runs=8, flows=4)


@pytest.fixture
def seeded(database_url: str) -> str:
    """The URL of a database with a tiny population."""
    seed(database_url, TINY)
    return database_url


def whole(size: Size) -> Part:
    """All parts of a population in one."""
    one = Part([], [], [], [], [], [])
    for part in population(size):
        for each in fields(Part):
            getattr(one, each.name).extend(getattr(part, each.name))
    return one


def replayed(run: RunRecord, history: list[StateRecord]) -> RunRecord:
    """The run as the server's own bookkeeping leaves it after these states."""
    nothing = dict.fromkeys(["state_id", "state_type", "state_name", "state_timestamp", "next_scheduled_start_time"])
    again = replace(
        run,
        **nothing,
        **dict.fromkeys(["expected_start_time", "start_time", "end_time", "state"]),
        run_count=0,
        total_run_time_seconds=0.0,
        updated=run.created,
    )
    for state in history:
        proposed = ProposedState(state.type, state.name, state.message, state.data, state.details)
        made = enter(again, proposed, state.timestamp)
        assert replace(made, id=state.id) == state
        again.state_id = state.id
    again.state, again.read_at = history[-1], run.read_at
    return again


async def test_every_seeded_run_is_as_its_states_have_left_it(seeded: str) -> None:
    made = whole(TINY)

    def read(connection: Connection) -> list[tuple[RunRecord, list[StateRecord]]]:
        runs = task_runs.task_runs_by_id(connection, [run.id for run in made.task_runs])
        histories = states.task_run_histories(connection, list(runs))
        parents = flow_runs.flow_runs_by_id(connection, [run.id for run in made.flow_runs])
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
        assert replayed(run, history) == run


async def test_a_seeded_run_is_queued_where_it_waits_in_the_background(seeded: str) -> None:
    waiting = {
        run.id: run.next_scheduled_start_time
        for run in whole(TINY).task_runs
        if run.flow_run_id is None and run.state_type is StateType.SCHEDULED
    }

    database = await open_database(seeded)
    try:
        ids = [run.id for run in whole(TINY).task_runs]
        entries = await database.read(lambda connection: queue.queue_entries_by_run(connection, ids))
    finally:
        await database.close()

    assert waiting
    assert {id: entry.available_at for id, entry in entries.items()} == waiting
    assert {(entry.is_retry, entry.attempt, entry.lease_id) for entry in entries.values()} == {(True, 1, None)}


def test_the_same_seed_makes_the_same_population_and_another_one_another() -> None:
    assert whole(TINY) == whole(TINY)
    assert whole(TINY) != whole(replace(TINY, seed=1))


def test_a_seeded_id_tells_when_its_row_was_created() -> None:
    made = whole(TINY)
    created = [(each.id, each.created) for each in (*made.flows, *made.flow_runs, *made.task_runs)]
    created += [(each.id, each.timestamp) for each in (*made.flow_run_states, *made.task_run_states)]

    for id, instant in created:
        assert canonical_id(id) == id
        assert id[14] == "7"
        assert int(id[:8] + id[9:13], 16) == int(moment(instant).timestamp() * 1000)
    assert len({id for id, _ in created}) == len(created)


def test_every_workload_runs_and_has_the_bare_driver_beside_it(
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


async def test_an_answer_that_is_not_what_was_expected_ends_the_run(server: Serving) -> None:
    client = Client(int(server.client.url.rpartition(":")[2]))
    await client.send(request("{ taskRuns { totalCount } }"))
    stop_at_faults("good", client)

    await client.send(request("{ nothingOfTheKind }"))
    await client.send(named("CreateTaskRun", b'"created":false', input={"taskKey": "t"}))
    client.close()

    with pytest.raises(SystemExit, match=r"bad: 2 answers were not what was expected; the first: .*nothingOfTheKind"):
        stop_at_faults("bad", client)


def test_the_cpu_time_of_a_process_is_what_it_says_of_itself() -> None:
    before = time.process_time()
    found = cpu_seconds_of(psutil.Process())

    # Where Linux does not keep the time to the nanosecond, it is told in hundredths.
    assert before - 0.02 <= found <= time.process_time() + 0.02


def test_two_reports_are_compared_by_their_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, cpu in (("old", 2.0), ("new", 3.0)):
        samples = Samples("a title", cpu_ms=[cpu, cpu, 9.0], bare_ms=[0.5, 0.5, 0.1], wall_ms=[4.0, 4.0, 4.0])
        found = {"task_runs": 200, "workloads": {"P": summary(samples)}, "figures": {"idle": 4.0}}
        (tmp_path / name).write_bytes(orjson.dumps({"databases": {"sqlite": found}}))

    compare(tmp_path / "old", tmp_path / "new")

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == ["P", "a", "title", "4.00", "6.00", "+50", "%", "2.00", "3.00", "+50", "%"]
    assert lines[3] == ["idle:", "4.00", "->", "4.00", "(+0", "%)"]
