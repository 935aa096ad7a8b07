"""Internal errors and a busy database: what clients receive, and what is logged."""

import asyncio
import logging
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from traceback import format_exception
from typing import Any
from uuid import UUID

import pytest
from graphql import GraphQLError

from schema.errors import to_client_error
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = SQLITE_ONLY


@contextmanager
def open_database(path: Path) -> Generator[sqlite3.Connection]:
    """Open a second connection to the server's database file, as another program would."""
    with closing(sqlite3.connect(path / "runyard.db", isolation_level=None)) as database:
        yield database


def break_inserts(path: Path) -> None:
    """Make every insert of a run with the task key `broken` fail with a secret message."""
    with open_database(path) as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON task_run WHEN new.task_key = 'broken' "
            "BEGIN SELECT RAISE(ABORT, 'the secret of the house'); END"
        )


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "runyard.errors"]


def masked_error_id(error: dict[str, Any]) -> str:
    """Return the id of an internal error. Fail when the error reveals anything else."""
    id = error["extensions"]["id"]
    assert UUID(id)
    assert error.pop("locations")
    assert error == {
        "message": f"Internal error. The server logged it with the id {id}.",
        "path": error["path"],
        "extensions": {"code": "INTERNAL", "id": id},
    }
    return id


async def test_an_internal_error_reveals_only_its_id(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_inserts(tmp_path)

    result = await client.send("CreateTaskRun", input={"taskKey": "broken"})

    assert result["data"] == {"createTaskRun": None}
    (error,) = result["errors"]
    assert error["path"] == ["createTaskRun"]
    masked_error_id(error)
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


async def test_an_internal_error_is_logged_in_full_under_its_id(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_inserts(tmp_path)

    result = await client.send("CreateTaskRun", input={"taskKey": "broken"})

    (record,) = logged_errors(caplog)
    assert record.levelno == logging.ERROR
    assert masked_error_id(result["errors"][0]) in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the secret of the house"


async def test_each_internal_error_has_its_own_id(client: Client, tmp_path: Path) -> None:
    break_inserts(tmp_path)

    results = [await client.send("CreateTaskRun", input={"taskKey": "broken"}) for _ in range(2)]

    assert len({masked_error_id(result["errors"][0]) for result in results}) == 2


async def test_a_socket_masks_an_internal_error_and_stays_open(client: Client, tmp_path: Path) -> None:
    break_inserts(tmp_path)

    async with client.socket() as socket:
        await socket.subscribe("CreateTaskRun", input={"taskKey": "broken"})
        message, complete = await socket.receive(), await socket.receive()
        await socket.subscribe("CreateTaskRun", input={"taskKey": "whole"})
        created = (await socket.event())["created"]

    assert (message["type"], message["payload"]["data"]) == ("next", {"createTaskRun": None})
    masked_error_id(message["payload"]["errors"][0])
    assert complete == {"id": "1", "type": "complete"}
    assert created is True


async def test_an_internal_error_in_one_field_leaves_the_other_fields_intact(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    created = await client.execute("CreateTaskRun", input={"taskKey": "t"})
    with open_database(tmp_path) as database:
        database.execute("ALTER TABLE queue_entry RENAME TO lost")

    result = await client.send("GetTaskRun", id=created["taskRun"]["id"])

    run = result["data"]["taskRun"]
    assert (run["id"], run["stateType"], run["queueEntry"]) == (created["taskRun"]["id"], "PENDING", None)
    (error,) = result["errors"]
    assert error["path"] == ["taskRun", "queueEntry"]
    assert masked_error_id(error) in logged_errors(caplog)[0].getMessage()


async def test_an_internal_error_does_not_affect_concurrent_requests(client: Client, tmp_path: Path) -> None:
    break_inserts(tmp_path)
    keys = ["t", "broken"] * 10

    results = await asyncio.gather(*(client.send("CreateTaskRun", input={"taskKey": key}) for key in keys))

    assert ["errors" in result for result in results] == [False, True] * 10
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 10


async def test_client_errors_are_not_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for id in ("nonsense", UNKNOWN_ID):
        await client.execute_refused("DeleteTaskRun", id=id)

    assert logged_errors(caplog) == []


async def test_a_write_that_exceeds_the_busy_timeout_is_retryable_and_writes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_server(tmp_path, database_busy_seconds=0.05) as server:
        with open_database(tmp_path) as other:
            other.execute("BEGIN IMMEDIATE")

            error = await server.client.execute_refused("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})

            assert error == {
                "message": "The database is busy or unavailable. Retry the request.",
                "code": "UNAVAILABLE",
                "retryable": True,
            }
            assert (await server.client.execute("ListTaskRuns"))["totalCount"] == 0
            other.execute("ROLLBACK")

        retried = await server.client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})
    assert retried["created"] is True
    assert logged_errors(caplog) == []


async def test_a_write_waits_for_a_locked_file_within_the_busy_timeout(server: RunningServer, tmp_path: Path) -> None:
    with open_database(tmp_path) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(server.client.execute("CreateTaskRun", input={"taskKey": "t"}))
        assert (await server.client.execute("ListTaskRuns"))["totalCount"] == 0

        other.execute("ROLLBACK")

        assert (await writing)["created"] is True


async def test_reads_continue_while_the_file_is_locked(tmp_path: Path) -> None:
    async with run_server(tmp_path, database_busy_seconds=0.05) as server:
        created = await server.client.execute("CreateTaskRun", input={"taskKey": "t"})
        with open_database(tmp_path) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM task_run")

            run = await server.client.execute("GetTaskRun", id=created["taskRun"]["id"])

            other.execute("ROLLBACK")
    assert run["id"] == created["taskRun"]["id"]


def test_an_error_reported_under_several_ids_is_logged_in_full_for_each(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError) as caught:
        fail()
    errors = [GraphQLError("disk", path=[path], original_error=caught.value) for path in ("one", "other")]

    for error in errors:
        to_client_error(error)

    logged = [record.exc_info for record in logged_errors(caplog)]
    assert ["fail" in "".join(format_exception(*each)) for each in logged if each] == [True, True]
