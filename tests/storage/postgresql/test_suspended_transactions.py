"""Servers that stop inside a transaction: PostgreSQL ends it, and other servers can write the locked rows."""

import asyncio
from pathlib import Path

import asyncpg
import psutil
import pytest

from db.postgresql.driver import open_pool
from tests.builders.api_runs import create_task_run, read_state_names
from tests.client import TIMEOUT_SECONDS, Client
from tests.connection_pooler import NEEDS_PGBOUNCER, connection_pooler
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, run_server
from tests.storage.processes import python_process

# SQLite has one server, and no sessions that could be ended.
pytestmark = [POSTGRESQL_ONLY, pytest.mark.processes]

SUSPEND_IN_TRANSACTION = """
import asyncio, os, signal, sys
from db.enums import StateType
from db.errors import DatabaseUnavailable
from db.postgresql.database import PostgreSQLDatabase
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.transitions import propose

url, run_id = sys.argv[1:]

def suspend(connection, changes):
    results = set_task_run_states(connection, changes)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return results

async def main():
    database = await PostgreSQLDatabase.open(url, timeout_seconds=1.0)
    try:
        await database.write(suspend, StateChange(run_id, propose(StateType.COMPLETED)))
    except DatabaseUnavailable:
        print("unavailable", flush=True)
    print("current" if await database.is_current() else "not current", flush=True)
    await database.close()

asyncio.run(main())
"""
"""Program that sets a run's state, and stops after it has locked the run, before it commits."""

PARAMETERS = {
    "idle_in_transaction_session_timeout": "7000",
    "lock_timeout": "100",
    "tcp_keepalives_count": "3",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_user_timeout": "25000",
}

LOCK = "SELECT FROM task_run WHERE id = $1 FOR UPDATE NOWAIT"


async def wait_until_stopped(process: psutil.Process) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await asyncio.to_thread(process.status) != psutil.STATUS_STOPPED:
            continue


async def is_locked(database_url: str, id: str) -> bool:
    async with database_connection(database_url) as connection:
        try:
            await connection.execute(LOCK, id)
        except asyncpg.LockNotAvailableError:
            return True
    return False


async def set_running_when_unlocked(client: Client, id: str) -> str:
    """Set the run RUNNING, again while it is locked, and return the status."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            response = await client.send("SetTaskRunState", id=id, state={"type": "RUNNING"})
            if "errors" not in response:
                return response["data"]["setTaskRunState"]["status"]
            assert [each["extensions"]["code"] for each in response["errors"]] == ["UNAVAILABLE"]


async def check_cut_off(suspended_url: str, database_url: str, folder: Path) -> None:
    async with run_server(folder, database_url=database_url) as server:
        id = await create_task_run(server.client)
        with python_process(SUSPEND_IN_TRANSACTION, suspended_url, id) as suspended:
            await wait_until_stopped(process := psutil.Process(suspended.pid))
            assert await is_locked(database_url, id)

            status = await set_running_when_unlocked(server.client, id)

            assert process.status() == psutil.STATUS_STOPPED
            process.resume()
            output, _ = await asyncio.to_thread(suspended.communicate, timeout=TIMEOUT_SECONDS)
        assert status == "ACCEPT"
        assert output == "unavailable\ncurrent\n"
        assert await read_state_names(server.client, id) == ["Pending", "Running"]


async def test_a_server_suspended_in_a_transaction_loses_its_locks(database_url: str, tmp_path: Path) -> None:
    await check_cut_off(database_url, database_url, tmp_path)


@NEEDS_PGBOUNCER
async def test_a_server_suspended_behind_a_pooler_loses_its_locks(database_url: str, tmp_path: Path) -> None:
    with connection_pooler(database_url) as pooled_url:
        await check_cut_off(pooled_url, database_url, tmp_path)


async def test_a_connection_sets_tcp_limits_within_thirty_seconds(database_url: str) -> None:
    pool = await open_pool(database_url, min_size=1, max_size=1, timeout_seconds=7)

    # A Unix socket has no limits of TCP: the reset value is the one that the connection has asked for.
    rows = await pool.fetch("SELECT name, reset_val FROM pg_settings WHERE name = ANY($1)", list(PARAMETERS))
    await pool.close()

    assert dict(rows) == PARAMETERS
