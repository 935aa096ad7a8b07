"""Lock order: transactions of several servers on one PostgreSQL database do not deadlock."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.util import await_only

from db.connection import Connection
from db.postgresql.database import PostgreSQLDatabase
from db.statements.task_runs import lock_task_runs
from resolvers.task_runs import NewTaskRun, create_all_task_runs
from tests.client import TIMEOUT_SECONDS
from tests.serving import POSTGRESQL_ONLY

# SQLite has a single writer.
pytestmark = POSTGRESQL_ONLY


async def test_two_operations_at_two_servers_commit_without_a_retry(
    databases: Sequence[PostgreSQLDatabase],
) -> None:
    created = await databases[0].write(create_all_task_runs, [NewTaskRun("t", "1"), NewTaskRun("t", "2")])
    runs = [each.task_run.id for each in created]
    calls: list[str] = []
    holding = asyncio.Barrier(2)

    def lock_and_wait_for_the_other(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
        calls.append("first")
        lock_task_runs(connection, ids)
        await_only(asyncio.wait_for(holding.wait(), TIMEOUT_SECONDS))
        return list(ids)

    def lock(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
        calls.append("second")
        lock_task_runs(connection, ids)
        return list(ids)

    results = await asyncio.gather(
        databases[0].write(lock_and_wait_for_the_other, runs[0]),
        databases[0].write(lock, runs[1]),
        databases[1].write(lock_and_wait_for_the_other, runs[1]),
        databases[1].write(lock, runs[0]),
    )

    assert results == [runs[0], runs[1], runs[1], runs[0]]
    assert sorted(calls) == ["first", "first", "second", "second"]
