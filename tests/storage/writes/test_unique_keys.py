"""Unique keys: the database guards them when several servers create and change runs at the same time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.util import await_only

from db.connection import Connection
from db.enums import StateType
from db.postgresql.database import PostgreSQLDatabase
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.task_runs import CreatedTaskRun, NewTaskRun, create_task_runs
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult, set_task_run_states
from tests.builders.transitions import propose
from tests.client import TIMEOUT_SECONDS
from tests.serving import POSTGRESQL_ONLY

# SQLite has a single writer.
pytestmark = POSTGRESQL_ONLY

Operation = Callable[[Connection, Sequence[Any]], list[Any]]


def waiting_before_commit(operation: Operation, barrier: asyncio.Barrier) -> Operation:
    """Return the operation, which at its first attempt waits for the barrier after its reads and before its commit."""
    attempts: list[str] = []

    def wait(connection: Connection, items: Sequence[Any]) -> list[Any]:
        results = operation(connection, items)
        attempts.append("attempt")
        if len(attempts) == 1:
            await_only(asyncio.wait_for(barrier.wait(), TIMEOUT_SECONDS))
        return results

    return wait


async def test_two_servers_that_create_a_run_at_once_create_one(databases: Sequence[PostgreSQLDatabase]) -> None:
    barrier = asyncio.Barrier(2)

    first, second = await asyncio.gather(
        *(
            database.write(waiting_before_commit(create_task_runs, barrier), NewTaskRun("t", str(n), unique_key="k"))
            for n, database in enumerate(databases)
        )
    )

    assert isinstance(first, CreatedTaskRun)
    assert isinstance(second, CreatedTaskRun)
    assert sorted([first.created, second.created]) == [False, True]
    assert first.task_run.id == second.task_run.id


async def test_two_runs_that_start_again_at_once_at_two_servers_do_not_both_start(
    databases: Sequence[PostgreSQLDatabase],
) -> None:
    barrier = asyncio.Barrier(2)
    failed = propose(StateType.FAILED)
    ids = [
        (await databases[0].write(create_task_runs, NewTaskRun("t", str(n), unique_key="k", state=failed))).task_run.id
        for n in range(2)
    ]

    results: list[TaskRunTransitionResult] = await asyncio.gather(
        *(
            database.write(
                waiting_before_commit(set_task_run_states, barrier), StateChange(id, propose(StateType.SCHEDULED))
            )
            for id, database in zip(ids, databases, strict=True)
        )
    )

    assert sorted(each.status for each in results) == [OrchestrationStatus.ACCEPT, OrchestrationStatus.REJECT]
