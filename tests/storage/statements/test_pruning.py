"""Runs that ended long ago are deleted when an operator wants it, in small batches; all others stay."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.util import await_only

from db.connection import Connection, SQLiteConnection
from db.enums import TERMINAL, StateType
from db.postgresql.database import PostgreSQLDatabase
from db.statements.pruning import is_only_pruner
from db.tables import HAS_ENDED
from resolvers import retention
from resolvers.retention import NOTHING, Pruned, Pruning, Retention, count_pruning, prune, prune_ended_runs
from tests.builders.rows import make_task_runs, new_task_runs
from tests.client import PATIENCE, Client
from tests.house.test_command import runyard
from tests.serving import ServerProcess, Serving, serving
from tests.tables import count_rows

DAY = 86_400
TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "queue_entry")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0)


def wanted(server: Serving, days: float = 30, states: Sequence[StateType] = tuple(TERMINAL)) -> Pruning:
    return Pruning(server.clock.now() - timedelta(days=days), states)


async def batches(server: Serving, pruning: Pruning) -> list[Pruned]:
    return [pruned async for pruned in prune(server.life.database, pruning)]


async def create(client: Client, *states: str, **fields: Any) -> str:
    """The id of a new task run that has been given these states."""
    run = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": {"type": states[0]}, **fields})
    id = run["taskRun"]["id"]
    for state in states[1:]:
        result = await client.ask("SetTaskRunState", id=id, state={"type": state})
        assert result["status"] == "ACCEPT"
    return id


async def create_flow_run(client: Client, **fields: Any) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    input = {"flowId": flow["id"], "state": {"type": "RUNNING"}, **fields}
    return (await client.ask("CreateFlowRun", input=input))["flowRun"]["id"]


async def end(client: Client, flow_run_id: str) -> None:
    result = await client.ask("SetFlowRunState", id=flow_run_id, state={"type": "COMPLETED"})
    assert result["status"] == "ACCEPT"


async def task_runs(client: Client) -> set[str]:
    return {run["id"] for run in (await client.ask("ListTaskRuns"))["nodes"]}


async def flow_runs(client: Client) -> set[str]:
    return {run["id"] for run in (await client.ask("ListFlowRuns"))["nodes"]}


# --- what is deleted ---


async def test_task_runs_that_ended_long_ago_are_deleted_and_no_others(server: Serving) -> None:
    client = server.client
    for states in (["PENDING", "RUNNING", "COMPLETED"], ["PENDING", "RUNNING", "FAILED"], ["SCHEDULED", "CANCELLED"]):
        await create(client, *states)
    going_on = {await create(client, "SCHEDULED"), await create(client, "PENDING", "RUNNING")}
    server.clock.advance(1)
    young = {await create(client, "PENDING", "RUNNING", "COMPLETED")}
    server.clock.advance(30 * DAY)

    pruned = await batches(server, wanted(server))

    assert pruned == [Pruned(3, 0)]
    assert await task_runs(client) == going_on | young


async def test_a_flow_run_goes_with_all_its_task_runs_and_leaves_nothing(server: Serving, database_url: str) -> None:
    id = await create_flow_run(server.client)
    await create(server.client, "PENDING", "RUNNING", "COMPLETED", flowRunId=id)
    await create(server.client, "PENDING", flowRunId=id)
    await end(server.client, id)
    server.clock.advance(31 * DAY)

    pruned = await batches(server, wanted(server))

    assert pruned == [Pruned(2, 1)]
    assert await count_rows(database_url, TABLES) == dict.fromkeys(TABLES, 0)


async def test_the_task_runs_of_a_flow_run_that_goes_on_stay(server: Serving) -> None:
    id = await create_flow_run(server.client)
    run = await create(server.client, "PENDING", "RUNNING", "COMPLETED", flowRunId=id)
    server.clock.advance(31 * DAY)

    pruned = await batches(server, wanted(server))

    assert pruned == []
    assert await task_runs(server.client) == {run}


async def test_a_subflow_stays_until_the_flow_run_above_has_ended(server: Serving) -> None:
    above = await create_flow_run(server.client)
    stands_for_it = await create(server.client, "PENDING", flowRunId=above)
    below = await create_flow_run(server.client, parentTaskRunId=stands_for_it)
    await end(server.client, below)
    server.clock.advance(31 * DAY)

    assert await batches(server, wanted(server)) == []
    assert await flow_runs(server.client) == {above, below}

    await end(server.client, above)
    assert await batches(server, wanted(server)) == [Pruned(0, 1)]
    assert await flow_runs(server.client) == {above}


async def test_only_the_states_that_were_named_are_deleted(server: Serving) -> None:
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    failed = await create(server.client, "PENDING", "RUNNING", "FAILED")
    server.clock.advance(31 * DAY)

    pruned = await batches(server, wanted(server, states=[StateType.COMPLETED]))

    assert pruned == [Pruned(1, 0)]
    assert await task_runs(server.client) == {failed}


async def test_a_batch_has_a_bound_and_a_large_flow_run_takes_several(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LARGEST_PRUNING", 2)
    id = await create_flow_run(server.client)
    for _ in range(3):
        await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        await create(server.client, "PENDING", flowRunId=id)
    await end(server.client, id)
    server.clock.advance(31 * DAY)

    pruned = await batches(server, wanted(server))

    assert pruned == [Pruned(2, 0), Pruned(1, 0), Pruned(2, 0), Pruned(1, 1)]
    assert await task_runs(server.client) == set()


async def test_counting_says_what_would_be_deleted_and_deletes_nothing(server: Serving, database_url: str) -> None:
    id = await create_flow_run(server.client)
    await create(server.client, "PENDING", flowRunId=id)
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    await create(server.client, "SCHEDULED")
    await end(server.client, id)
    server.clock.advance(31 * DAY)
    before = await count_rows(database_url, TABLES)

    counted = await server.life.database.read(lambda connection: count_pruning(connection, wanted(server)))

    assert counted == Pruned(2, 1)
    assert await count_rows(database_url, TABLES) == before


def test_a_run_has_ended_by_the_index_where_it_has_by_the_rules(connection: SQLiteConnection) -> None:
    ended = {
        each
        for each in StateType
        if connection.raw.execute(f"SELECT {HAS_ENDED} FROM (SELECT ? AS state_type)", [each.value]).fetchone()[0]  # noqa: S608
    }

    assert ended == TERMINAL


# --- in the running server ---


async def test_a_server_with_a_retention_deletes_old_runs_by_itself(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database_url=database_url, retention="30d") as server:
        await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        young_at = 31 * DAY
        server.clock.advance(young_at)
        young = await create(server.client, "PENDING", "RUNNING", "COMPLETED")
        server.clock.advance(15 * 60)

        async with asyncio.timeout(PATIENCE):
            while len(left := await task_runs(server.client)) > 1:
                continue

    assert left == {young}


async def test_it_looks_again_after_a_time_that_chance_draws_out(server: Serving) -> None:
    keeping = Retention(server.life.database, server.clock, timedelta(days=30), chance=lambda: 0.25)
    await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    running = asyncio.create_task(keeping.run())
    await server.clock.somebody_waits(7.5 * 60)

    server.clock.advance(31 * DAY)
    await server.clock.somebody_waits(7.5 * 60)
    running.cancel()

    assert await task_runs(server.client) == set()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_of_several_servers_one_at_a_time_deletes(server: Serving, database_url: str) -> None:
    keeping = Retention(server.life.database, server.clock, timedelta(days=30))
    run = await create(server.client, "PENDING", "RUNNING", "COMPLETED")
    server.clock.advance(31 * DAY)
    other = await asyncpg.connect(database_url)

    try:
        async with other.transaction():
            await other.fetchval("SELECT pg_advisory_xact_lock(6871429351)")
            assert await keeping.prune() == NOTHING
            assert await task_runs(server.client) == {run}
    finally:
        await other.close()

    assert await keeping.prune() == Pruned(1, 0)
    assert await task_runs(server.client) == set()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_who_deletes_is_alone_until_its_transaction_ends(server: Serving, database_url: str) -> None:
    database = server.life.database
    other = await PostgreSQLDatabase.open(database_url.replace("+asyncpg", ""))

    def ask(connection: Connection, asked: Sequence[str]) -> list[bool | Exception]:
        return [is_only_pruner(connection) for _ in asked]

    def ask_and_have_the_other_ask(connection: Connection, asked: Sequence[str]) -> list[tuple[bool, bool] | Exception]:
        return [(is_only_pruner(connection), await_only(other.write(ask, "other"))) for _ in asked]

    try:
        first = await database.write(ask_and_have_the_other_ask, "first")
        second = await other.write(ask, "later")
    finally:
        await other.close()

    assert (first, second) == ((True, False), True)


# --- the command ---


async def test_the_command_deletes_while_a_server_runs(server_process: ServerProcess, database_url: str) -> None:
    client = await server_process.start()
    await create(client, "PENDING", "RUNNING", "COMPLETED")
    kept = await create(client, "PENDING", "RUNNING", "FAILED")

    async def command(*options: str) -> tuple[int, str]:
        arguments = ("prune", "--older-than", "0.001s", "--state", "completed", *options)
        done = await asyncio.to_thread(runyard, *arguments, folder=Path(), RUNYARD_DATABASE_URL=database_url)
        return done.returncode, done.stdout.partition(" that ended before ")[0]

    would = await command("--dry-run")
    assert len(await task_runs(client)) == 2
    deleted = await command()

    assert would == (0, "Would delete 1 task run and 0 flow runs")
    assert deleted == (0, "Deleted 1 task run and 0 flow runs")
    assert await task_runs(client) == {kept}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--older-than", "soon"], "'soon' is no duration"),
        (["--older-than", "30d", "--state", "RUNNING"], "RUNNING is no state that a run ends in"),
        (["--older-than", "30d"], "runyard: There is no file"),
        ([], "Missing option"),
    ],
)
def test_the_command_refuses_what_it_can_not_do(tmp_path: Path, arguments: list[str], fault: str) -> None:
    path = tmp_path / "none.db"

    refused = runyard("prune", *arguments, folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert refused.returncode != 0
    assert fault in " ".join(refused.stderr.replace("│", " ").split())
    assert "Traceback" not in refused.stderr
    assert not path.exists()


# --- the file ---


def test_the_room_of_what_was_deleted_is_used_again(connection: SQLiteConnection) -> None:
    def fill_and_empty() -> int:
        make_task_runs(connection, new_task_runs(400, StateType.COMPLETED))
        ((pages,),) = connection.raw.execute("PRAGMA page_count").fetchall()
        connection.now = "2031-01-01T00:00:00.000000Z"
        pruning = Pruning(before=retention.datetime.fromisoformat("2030-12-01T00:00:00+00:00"))
        pruned = NOTHING
        while each := prune_ended_runs(connection, [pruning])[0]:
            assert isinstance(each, Pruned)
            pruned += each
        connection.now = "2030-01-01T12:00:00.000000Z"
        assert pruned == Pruned(400, 0)
        return pages

    first = fill_and_empty()

    # Not to the page: the tables' halves are filled as chance has it.
    assert max(fill_and_empty() for _ in range(3)) <= first + 8
