"""Upgrades: a database that an earlier version has written is migrated with all of its contents, and stays in use.

`fixtures/` has one database of each kind, and the response to `CONTENTS` that its server returned.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import migrations
from db.errors import DatabaseUnavailable
from tests.builders.api_runs import create_task_run, set_flow_run_state, set_task_run_state
from tests.client import Client
from tests.clock import ManualClock
from tests.postgresql import PostgreSQLServer, database_connection
from tests.serving import RunningServer, run_server
from tests.state_change_followers import receive_events

FIXTURES = Path(__file__).parent / "fixtures"

ADDED_COLUMNS = {
    "task_run": {
        "priority": 0,
        "expires_at": None,
        "timeout_seconds": None,
        "unique_key": None,
        "metadata": None,
        "progress": None,
        "slot_tags": None,
    },
    "queue_entry": {"priority": 0, "times_out_at": None, "expires_at": None},
    "task_run_state": {"actor": None},
    "flow_run_state": {"actor": None},
}
"""The columns that an upgrade adds to each table, with the value that existing rows have."""

RENAMED_DETAILS = {"cache_expiration": "cache_expires_at", "pause_timeout": "pause_timeout_at"}

_STATE = """
  id type name timestamp message data
  details {
    flowRunId taskRunId childFlowRunId scheduledTime cacheKey cacheExpiresAt refreshCache transitionId pauseTimeoutAt
    pauseReschedule pauseKey retriable untrackableResult taskParametersId
  }
"""

CONTENTS = f"""{{
  taskRuns(first: 100) {{ nodes {{
    id createdAt updatedAt name taskKey dynamicKey taskVersion cacheKey cacheExpiresAt
    retryPolicy {{ retries retryDelaySeconds retryJitterFactor }}
    tags taskInputs parameters flowRunId stateId stateType stateName state {{ id }} childFlowRun {{ id }}
    states {{ {_STATE} }}
    runCount flowRunRunCount expectedStartTime nextScheduledStartTime startTime endTime totalRunTimeSeconds traceParent
    queueEntry {{ taskKey availableAt isRetry attempt workerName }}
  }} }}
  flowRuns(first: 100) {{ nodes {{
    id createdAt updatedAt name flowId deploymentId workQueueName flowVersion idempotencyKey parameters context
    retryPolicy {{ retries retryDelaySeconds }} pauseKeys resuming
    tags parentTaskRunId stateId stateType stateName state {{ id }}
    states {{ {_STATE} }}
    runCount expectedStartTime nextScheduledStartTime startTime endTime totalRunTimeSeconds
  }} }}
  flows(first: 100) {{ nodes {{ id createdAt updatedAt name tags }} }}
  deployments(first: 100) {{ nodes {{ id createdAt updatedAt name flowId tags workQueueName isScheduleActive }} }}
  concurrencyLimits {{ id createdAt updatedAt tag limit slots {{ taskRunId }} }}
}}"""


@dataclass(frozen=True)
class EarlierDatabase:
    """A database that an earlier version has written, not migrated yet."""

    url: str
    recorded: dict[str, Any]
    """What the earlier server returned, and the ids of some of its runs."""

    @property
    def path(self) -> Path:
        return Path(self.url.partition(":///")[2])

    def upgrade(self) -> bool:
        """Apply the pending migrations. Return whether there were any."""
        if self.url.startswith("sqlite"):
            return migrations.upgrade_sqlite(self.path)
        return migrations.upgrade_postgresql(self.url)

    async def run(self, statement: str) -> None:
        """Execute a statement on the database."""
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.path)) as file, file:
                file.execute(statement)
            return
        async with database_connection(self.url) as connection:
            await connection.execute(statement)


@pytest.fixture
def earlier(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EarlierDatabase]:
    script = (FIXTURES / f"before_0002_{database_kind}.sql").read_text("utf-8")
    recorded = json.loads((FIXTURES / f"before_0002_{database_kind}.json").read_text("utf-8"))
    if database_kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "earlier.db")) as file:
            file.executescript(script)
        yield EarlierDatabase(f"sqlite+aiosqlite:///{tmp_path}/earlier.db", recorded)
        return
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    name = server.make(migrated=False)
    server.run_script(name, script)
    yield EarlierDatabase(server.url_of(name), recorded)
    server.drop(name)


@pytest.fixture
async def upgraded(earlier: EarlierDatabase, upgrade: None, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server on the database, one second after its earlier server wrote to it last."""
    clock = ManualClock(datetime.fromisoformat(earlier.recorded["now"]) + timedelta(seconds=1))
    async with run_server(tmp_path, clock, database_url=earlier.url) as server:
        yield server


@pytest.fixture
def upgrade(earlier: EarlierDatabase) -> None:
    """Migrate the database on PostgreSQL. On SQLite, the server does it at start."""
    if not earlier.url.startswith("sqlite"):
        earlier.upgrade()


async def read_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table, sorted, except those of `alembic_version`."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.partition(":///")[2])) as file:
            file.row_factory = sqlite3.Row
            names = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            rows = {name: [dict(row) for row in file.execute(f"SELECT * FROM {name}")] for (name,) in names}  # noqa: S608
    else:
        async with database_connection(url) as connection:
            names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            rows = {name: [dict(row) for row in await connection.fetch(f"SELECT * FROM {name}")] for (name,) in names}  # noqa: S608
    del rows["alembic_version"]
    return {table: sorted(each, key=lambda row: str(list(row.values())[:2])) for table, each in rows.items()}


async def read_schema(url: str) -> list[tuple[Any, ...]]:
    """Return the definitions of all tables, columns, indexes and constraints."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.partition(":///")[2])) as file:
            rows = file.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        return sorted((name, " ".join(sql.split())) for name, sql in rows)
    async with database_connection(url) as connection:
        columns = await connection.fetch(
            "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable,"
            " column_default, collation_name FROM information_schema.columns WHERE table_schema = 'public'"
        )
        indexes = await connection.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
        constraints = await connection.fetch(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
        )
    return sorted(map(tuple, (*columns, *indexes, *constraints)), key=str)


def with_new_names(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with the current names in the details of a state."""
    if "details" not in row:
        return row
    details = json.loads(row["details"])
    return {**row, "details": {RENAMED_DETAILS.get(key, key): value for key, value in details.items()}}


def without_nulls(value: Any) -> Any:
    """Return a JSON value without the fields that are null, which the recorded response omits."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


async def read_contents(client: Client) -> dict[str, Any]:
    response = (await client.http.post("/graphql", json={"query": CONTENTS})).json()
    assert "errors" not in response
    return {
        name: without_nulls(value if isinstance(value, list) else value["nodes"])
        for name, value in response["data"].items()
    }


def by_id(contents: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: {each["id"]: each for each in nodes} for name, nodes in contents.items()}


async def test_an_upgraded_database_has_the_schema_of_a_new_one(earlier: EarlierDatabase, database_url: str) -> None:
    assert await read_schema(earlier.url) != await read_schema(database_url)

    upgraded = await asyncio.to_thread(earlier.upgrade)

    assert upgraded is True
    assert await read_schema(earlier.url) == await read_schema(database_url)


async def test_an_upgrade_keeps_every_row(earlier: EarlierDatabase) -> None:
    before = await read_rows(earlier.url)

    await asyncio.to_thread(earlier.upgrade)

    after = await read_rows(earlier.url)
    assert sum(map(len, before.values())) == 101
    assert after.pop("heartbeat") == []
    assert after.pop("paused_queue") == []
    assert after.pop("server_workers") == []
    for table, columns in ADDED_COLUMNS.items():
        assert [{column: row.pop(column) for column in columns} for row in after[table]] == [columns] * len(
            after[table]
        )
    acquired = {str(row["task_run_id"]): row.pop("acquired_at") for row in after["concurrency_slot"]}
    waits_for = {str(row["task_run_id"]): row.pop("waits_for_tag") for row in after["queue_entry"]}
    assert {table: [with_new_names(row) for row in rows] for table, rows in before.items()} == {
        table: [{**row, "details": json.loads(row["details"])} if "details" in row else row for row in rows]
        for table, rows in after.items()
    }
    entered_running = {
        str(row["run_id"]): row["timestamp"] for row in after["task_run_state"] if row["type"] == "RUNNING"
    }
    assert {id: tag for id, tag in waits_for.items() if tag is not None} == dict.fromkeys(
        (str(row["task_run_id"]) for row in before["queue_entry"] if row["waits_for_slot"]), "database"
    )
    assert acquired == {id: entered_running[id] for id in (earlier.recorded["holder"], earlier.recorded["cancelling"])}


async def test_an_upgrade_that_fails_changes_nothing(earlier: EarlierDatabase) -> None:
    await earlier.run("CREATE TABLE heartbeat (mine INTEGER)")  # the last statement of the migration creates this table
    schema, rows = await read_schema(earlier.url), await read_rows(earlier.url)

    with pytest.raises(DatabaseUnavailable, match="already exists"):
        await asyncio.to_thread(earlier.upgrade)

    assert await read_schema(earlier.url) == schema
    assert await read_rows(earlier.url) == rows


async def test_the_api_returns_the_same_after_an_upgrade(earlier: EarlierDatabase, upgraded: RunningServer) -> None:
    contents, recorded = by_id(await read_contents(upgraded.client)), by_id(earlier.recorded["response"])

    # A SQLite server requeues unacknowledged deliveries at start.
    for each in (contents, recorded):
        del each["taskRuns"][earlier.recorded["unacknowledged"]]["queueEntry"]
    assert contents == recorded
    assert {name: len(each) for name, each in contents.items()} == {
        "taskRuns": 21,
        "flowRuns": 4,
        "flows": 2,
        "deployments": 2,
        "concurrencyLimits": 3,
    }


async def test_a_worker_completes_its_run_under_the_lease_of_before(
    earlier: EarlierDatabase, upgraded: RunningServer
) -> None:
    id, lease_id = earlier.recorded["holder"], earlier.recorded["holderLease"]

    (renewal,) = (await upgraded.client.execute("RenewTaskRunLeases", leaseIds=[lease_id]))["leases"]
    result = await set_task_run_state(upgraded.client, id, "COMPLETED", lease_id=lease_id, data={"rows": 3})

    assert renewal["status"] == "HELD"
    assert (result["status"], result["state"]["name"]) == ("ACCEPT", "Completed")
    assert result["taskRun"]["stateType"] == "COMPLETED"


async def test_a_queued_run_is_delivered_after_an_upgrade(earlier: EarlierDatabase, upgraded: RunningServer) -> None:
    async with upgraded.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["report"], prefetch=10)
        deliveries = await socket.deliveries(2)

    assert [(each["taskRun"]["id"], each["attempt"]) for each in deliveries] == [
        (earlier.recorded["queued"], 1),
        (earlier.recorded["nextQueued"], 1),
    ]


async def test_an_unacknowledged_run_is_redelivered_after_an_upgrade(
    earlier: EarlierDatabase, upgraded: RunningServer
) -> None:
    upgraded.clock.advance(60)
    await upgraded.sweep()
    upgraded.clock.advance(60)

    (delivery,) = (await upgraded.client.execute("ClaimTaskRuns", taskKeys=["unacknowledged"]))["deliveries"]

    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (earlier.recorded["unacknowledged"], 2)


async def test_a_waiting_run_gets_the_slot_of_a_run_that_completes(
    earlier: EarlierDatabase, upgraded: RunningServer
) -> None:
    client, recorded = upgraded.client, earlier.recorded
    assert (await client.execute("GetConcurrencyLimit", tag="database"))["waitingCount"] == 2
    assert (await client.execute("ClaimTaskRuns", taskKeys=["limited"]))["deliveries"] == []

    await set_task_run_state(client, recorded["holder"], "COMPLETED", lease_id=recorded["holderLease"])
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["limited"]))["deliveries"]
    result = await set_task_run_state(client, recorded["waiter"], "RUNNING", lease_id=delivery["leaseId"])

    assert delivery["taskRun"]["id"] == recorded["waiter"]
    assert result["status"] == "ACCEPT"
    (slot,) = (await client.execute("GetConcurrencyLimit", tag="database"))["slots"]
    assert slot["taskRunId"] == recorded["waiter"]


async def test_the_feed_resumes_from_a_cursor_of_before(earlier: EarlierDatabase, upgraded: RunningServer) -> None:
    recorded = earlier.recorded
    async with upgraded.client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges", after=recorded["cursor"])
        missed = await receive_events(socket, len(recorded["after"]))
        id = await create_task_run(upgraded.client, name="after the upgrade")
        (created,) = await receive_events(socket, 1)

    assert [event["state"]["id"] for event in missed] == recorded["after"]
    assert created["taskRun"]["id"] == id
    assert [event["gap"] for event in (*missed, created)] == [False] * (len(missed) + 1)


async def test_keys_of_before_return_the_existing_runs(earlier: EarlierDatabase, upgraded: RunningServer) -> None:
    recorded = earlier.recorded

    flow_run = await upgraded.client.execute(
        "CreateFlowRun", input={"deploymentId": recorded["deployment"], "idempotencyKey": "etl-2026-11-30"}
    )
    task_run = await upgraded.client.execute("CreateTaskRun", input={"taskKey": "report", "dynamicKey": "first"})

    assert (flow_run["created"], flow_run["flowRun"]["id"]) == (False, recorded["flowRun"])
    assert (task_run["created"], task_run["taskRun"]["id"]) == (False, recorded["queued"])


async def test_a_result_cached_before_is_found(upgraded: RunningServer) -> None:
    id = await create_task_run(upgraded.client, taskKey="cached")

    result = await set_task_run_state(upgraded.client, id, "RUNNING", details={"cacheKey": "day:2026-11-30"})

    assert (result["status"], result["state"]["name"], result["state"]["data"]) == ("REJECT", "Cached", {"answer": 42})


async def test_a_flow_run_paused_before_resumes(earlier: EarlierDatabase, upgraded: RunningServer) -> None:
    id = earlier.recorded["pausedFlowRun"]

    result = await set_flow_run_state(upgraded.client, id, "RUNNING")

    assert (result["status"], result["state"]["type"]) == ("ACCEPT", "RUNNING")


async def test_a_token_of_before_authenticates(earlier: EarlierDatabase, upgrade: None, tmp_path: Path) -> None:
    clock = ManualClock(datetime.fromisoformat(earlier.recorded["now"]) + timedelta(seconds=1))
    request = {"query": "{ taskRunCount }"}
    headers = {"Authorization": f"Bearer {earlier.recorded['token']}"}

    async with run_server(tmp_path, clock, database_url=earlier.url, access="tokens") as server:
        accepted = await server.client.http.post("/graphql", json=request, headers=headers)
        rejected = await server.client.http.post("/graphql", json=request)

    assert accepted.json() == {"data": {"taskRunCount": 21}}
    assert rejected.status_code == 401
