"""Pruning: ended runs older than the retention period are deleted in batches; all other runs stay."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.util import await_only

from db.connection import Connection, SQLiteConnection
from db.enums import TERMINAL, StateType
from db.postgresql.database import PostgreSQLDatabase
from db.statements.pruning import try_acquire_pruning_lock
from db.tables import HAS_ENDED
from resolvers import retention
from resolvers.retention import (
    NOTHING_PRUNED,
    PruneRequest,
    PruneResult,
    Retention,
    count_prunable,
    prune,
    prune_ended_runs,
)
from tests.builders.api_runs import create_flow_run, create_task_run, set_flow_run_state, set_states_in_turn
from tests.builders.rows import make_task_runs, new_task_runs
from tests.client import TIMEOUT_SECONDS, Client
from tests.command import runyard
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, ServerProcess, run_server
from tests.tables import count_rows

DAY = 86_400
TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "queue_entry")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0)


def pruning_before(
    server: RunningServer, days: float = 30, states: Sequence[StateType] = tuple(TERMINAL)
) -> PruneRequest:
    return PruneRequest(server.clock.now() - timedelta(days=days), states)


async def prune_all(server: RunningServer, pruning: PruneRequest) -> list[PruneResult]:
    return [pruned async for pruned in prune(server.services.database, pruning)]


async def create(client: Client, *states: str, **fields: Any) -> str:
    """Create a task run, set these states and return its id."""
    id = await create_task_run(client, states[0], **fields)
    await set_states_in_turn(client, id, *states[1:])
    return id


async def end_flow_run(client: Client, id: str) -> None:
    assert (await set_flow_run_state(client, id, "COMPLETED"))["status"] == "ACCEPT"


async def list_task_runs(client: Client) -> set[str]:
    return {run["id"] for run in (await client.execute("ListTaskRuns"))["nodes"]}


async def list_flow_runs(client: Client) -> set[str]:
    return {run["id"] for run in (await client.execute("ListFlowRuns"))["nodes"]}


async def test_only_task_runs_that_ended_before_the_cutoff_are_deleted(server: RunningServer) -> None:
    client = server.client
    for states in (["PENDING", "RUNNING", "COMPLETED"], ["PENDING", "RUNNING", "FAILED"], ["SCHEDULED", "CANCELLED"]):
        await create(client, *states)
    active = {await create(client, "SCHEDULED"), await create(client, "PENDING", "RUNNING")}
    server.clock.advance(1)
    recent = {await create(client, "PENDING", "RUNNING", "COMPLETED")}
    server.clock.advance(30 * DAY)

    pruned = await prune_all(server, pruning_before(server))

    assert pruned == [PruneResult(3, 0)]
    assert await list_task_runs(client) == active | recent


async def test_an_old_flow_run_is_deleted_with_all_its_rows(server: RunningServer, database_url: str) -> None:
    id = await create_flow_run(server.client, "RUNNING")
    await create(server.client, "PENDING", "RUNNING", "COMPLETED", flowRunId=id)
    await create(server.client, "PENDING", flowRunId=id)
    await end_flow_run(server.client, id)
    server.clock.advance(31 * DAY)

    pruned = await prune_all(server, pruning_before(server))

    assert pruned == [PruneResult(2, 1)]
    assert await count_rows(database_url, TABLES) == dict.fromkeys(TABLES, 0)


async def test_task_runs_of_an_active_flow_run_are_kept(server: RunningServer) -> None:
    id = await create_flow_run(server.client, "RUNNING")
    run = await create(server.client, "PENDING", "RUNNING", "COMPLETED", flowRunId=id)
    server.clock.advance(31 * DAY)

    pruned = await prune_all(server, pruning_before(server))

    assert pruned == []
    assert await list_task_runs(server.client) == {run}


async def test_a_subflow_is_kept_until_its_parent_flow_run_has_ended(server: RunningServer) -> None:
    parent = await create_flow_run(server.client, "RUNNING")
    parent_task_run = await create(server.client, "PENDING", flowRunId=parent)
    child = await create_flow_run(server.client, "RUNNING", parentTaskRunId=parent_task_run)
    await end_flow_run(server.client, child)
    server.clock.advance(31 * DAY)

    assert await prune_all(server, pruning_before(server)) == []
    assert await list_flow_runs(server.client) == {parent, child}

    await end_flow_run(server.client, parent)
    assert await prune_all(server, pruning_before(server)) == [PruneResult(0, 1)]
    assert await list_flow_runs(server.client) == {parent}


async def test_only_runs_in_the_given_states_are_deleted(server: RunningServer) -> None:
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    failed = await create(server.client, "PENDING", "RUNNING", "FAILED")
    server.clock.advance(31 * DAY)

    pruned = await prune_all(server, pruning_before(server, states=[StateType.COMPLETED]))

    assert pruned == [PruneResult(1, 0)]
    assert await list_task_runs(server.client) == {failed}


async def test_batches_are_limited_and_a_large_flow_run_takes_several(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PRUNE_BATCH_SIZE", 2)
    id = await create_flow_run(server.client, "RUNNING")
    for _ in range(3):
        await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        await create(server.client, "PENDING", flowRunId=id)
    await end_flow_run(server.client, id)
    server.clock.advance(31 * DAY)

    pruned = await prune_all(server, pruning_before(server))

    assert pruned == [PruneResult(2, 0), PruneResult(1, 0), PruneResult(2, 0), PruneResult(1, 1)]
    assert await list_task_runs(server.client) == set()


async def test_counting_returns_what_would_be_deleted_and_deletes_nothing(
    server: RunningServer, database_url: str
) -> None:
    id = await create_flow_run(server.client, "RUNNING")
    await create(server.client, "PENDING", flowRunId=id)
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    await create(server.client, "SCHEDULED")
    await end_flow_run(server.client, id)
    server.clock.advance(31 * DAY)
    before = await count_rows(database_url, TABLES)

    counted = await server.services.database.read(lambda connection: count_prunable(connection, pruning_before(server)))

    assert counted == PruneResult(2, 1)
    assert await count_rows(database_url, TABLES) == before


def test_the_index_condition_matches_exactly_the_terminal_states(connection: SQLiteConnection) -> None:
    ended = {
        each
        for each in StateType
        if connection.raw.execute(f"SELECT {HAS_ENDED} FROM (SELECT ? AS state_type)", [each.value]).fetchone()[0]  # noqa: S608
    }

    assert ended == TERMINAL


async def test_a_server_with_a_retention_period_deletes_old_runs(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url, retention="30d") as server:
        await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        elapsed = 31 * DAY
        server.clock.advance(elapsed)
        recent = await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        server.clock.advance(15 * 60)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(left := await list_task_runs(server.client)) > 1:
                continue

    assert left == {recent}


async def test_the_pruning_interval_is_jittered(server: RunningServer) -> None:
    retention_job = Retention(server.services.database, server.clock, timedelta(days=30), chance=lambda: 0.25)
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    running = asyncio.create_task(retention_job.run())
    await server.clock.wait_for_waiter(7.5 * 60)

    server.clock.advance(31 * DAY)
    await server.clock.wait_for_waiter(7.5 * 60)
    running.cancel()

    assert await list_task_runs(server.client) == set()


@POSTGRESQL_ONLY
async def test_only_one_server_prunes_at_a_time(server: RunningServer, database_url: str) -> None:
    retention_job = Retention(server.services.database, server.clock, timedelta(days=30))
    run = await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    server.clock.advance(31 * DAY)

    async with database_connection(database_url) as other, other.transaction():
        await other.fetchval("SELECT pg_advisory_xact_lock(6871429351)")
        assert await retention_job.prune() == NOTHING_PRUNED
        assert await list_task_runs(server.client) == {run}

    assert await retention_job.prune() == PruneResult(1, 0)
    assert await list_task_runs(server.client) == set()


@POSTGRESQL_ONLY
async def test_the_pruning_lock_is_held_until_its_transaction_ends(server: RunningServer, database_url: str) -> None:
    database = server.services.database
    other = await PostgreSQLDatabase.open(database_url.replace("+asyncpg", ""))

    def check_lock(connection: Connection, items: Sequence[str]) -> list[bool | Exception]:
        return [try_acquire_pruning_lock(connection) for _ in items]

    def check_lock_on_both(connection: Connection, items: Sequence[str]) -> list[tuple[bool, bool] | Exception]:
        return [(try_acquire_pruning_lock(connection), await_only(other.write(check_lock, "other"))) for _ in items]

    try:
        first = await database.write(check_lock_on_both, "first")
        second = await other.write(check_lock, "later")
    finally:
        await other.close()

    assert (first, second) == ((True, False), True)


async def test_the_prune_command_deletes_while_a_server_runs(server_process: ServerProcess, database_url: str) -> None:
    client = await server_process.start()
    await create(client, "PENDING", "RUNNING", "COMPLETED")
    kept = await create(client, "PENDING", "RUNNING", "FAILED")

    async def command(*options: str) -> tuple[int, str]:
        arguments = ("prune", "--older-than", "0.001s", "--state", "completed", *options)
        done = await asyncio.to_thread(runyard, *arguments, folder=Path(), RUNYARD_DATABASE_URL=database_url)
        return done.returncode, done.stdout.partition(" that ended before ")[0]

    preview = await command("--dry-run")
    assert len(await list_task_runs(client)) == 2
    deleted = await command()

    assert preview == (0, "Would delete 1 task run and 0 flow runs")
    assert deleted == (0, "Deleted 1 task run and 0 flow runs")
    assert await list_task_runs(client) == {kept}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--older-than", "soon"], "'soon' is not a duration"),
        (["--older-than", "30d", "--state", "RUNNING"], "RUNNING is not a terminal state"),
        (["--older-than", "30d"], "runyard: No such file: "),
        ([], "Missing option"),
    ],
)
def test_the_prune_command_rejects_invalid_arguments(tmp_path: Path, arguments: list[str], error: str) -> None:
    path = tmp_path / "none.db"

    completed = runyard("prune", *arguments, folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert completed.returncode != 0
    assert error in " ".join(completed.stderr.replace("│", " ").split())
    assert "Traceback" not in completed.stderr
    assert not path.exists()


def test_space_freed_by_pruning_is_reused(connection: SQLiteConnection) -> None:
    def fill_and_empty() -> int:
        make_task_runs(connection, new_task_runs(400, StateType.COMPLETED))
        ((pages,),) = connection.raw.execute("PRAGMA page_count").fetchall()
        connection.now = "2031-01-01T00:00:00.000000Z"
        pruning = PruneRequest(before=retention.datetime.fromisoformat("2030-12-01T00:00:00+00:00"))
        pruned = NOTHING_PRUNED
        while each := prune_ended_runs(connection, [pruning])[0]:
            assert isinstance(each, PruneResult)
            pruned += each
        connection.now = "2030-01-01T12:00:00.000000Z"
        assert pruned == PruneResult(400, 0)
        return pages

    first = fill_and_empty()

    # Not exact to the page: how full B-tree pages are depends on the random ids.
    assert max(fill_and_empty() for _ in range(3)) <= first + 8
