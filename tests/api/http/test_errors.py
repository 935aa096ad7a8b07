"""Faults and a busy database: what clients are told, and what the log keeps."""

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

from schema.errors import public_error
from tests.client import Client
from tests.serving import Serving, serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


@contextmanager
def database_of(path: Path) -> Generator[sqlite3.Connection]:
    """The server's database file, opened by another program."""
    with closing(sqlite3.connect(path / "runyard.db", isolation_level=None)) as database:
        yield database


def break_creating(path: Path) -> None:
    """Let the database fail, with a secret, whenever a run of the task `broken` is created."""
    with database_of(path) as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON task_run WHEN new.task_key = 'broken' "
            "BEGIN SELECT RAISE(ABORT, 'the secret of the house'); END"
        )


def faults_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "runyard.errors"]


def masked(error: dict[str, Any]) -> str:
    """The id under which a fault was logged. Fails if the error tells anything but that."""
    id = error["extensions"]["id"]
    assert UUID(id)
    assert error.pop("locations")
    assert error == {
        "message": f"An internal error; the server's log has it as {id}.",
        "path": error["path"],
        "extensions": {"code": "INTERNAL", "id": id},
    }
    return id


async def test_a_fault_is_told_by_an_id_and_by_nothing_else(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_creating(tmp_path)

    answer = await client.send("CreateTaskRun", input={"taskKey": "broken"})

    assert answer["data"] is None
    (error,) = answer["errors"]
    assert error["path"] == ["createTaskRun"]
    masked(error)
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 0


async def test_the_log_has_the_whole_fault_under_its_id(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_creating(tmp_path)

    answer = await client.send("CreateTaskRun", input={"taskKey": "broken"})

    (record,) = faults_in(caplog)
    assert record.levelno == logging.ERROR
    assert masked(answer["errors"][0]) in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the secret of the house"


async def test_every_fault_has_an_id_of_its_own(client: Client, tmp_path: Path) -> None:
    break_creating(tmp_path)

    answers = [await client.send("CreateTaskRun", input={"taskKey": "broken"}) for _ in range(2)]

    assert len({masked(answer["errors"][0]) for answer in answers}) == 2


async def test_a_fault_over_a_socket_is_told_as_little_and_the_socket_lives_on(client: Client, tmp_path: Path) -> None:
    break_creating(tmp_path)

    async with client.socket() as socket:
        await socket.subscribe("CreateTaskRun", input={"taskKey": "broken"})
        message, complete = await socket.receive(), await socket.receive()
        await socket.subscribe("CreateTaskRun", input={"taskKey": "whole"})
        created = (await socket.event())["created"]

    assert (message["type"], message["payload"]["data"]) == ("next", None)
    masked(message["payload"]["errors"][0])
    assert complete == {"id": "1", "type": "complete"}
    assert created is True


async def test_a_field_that_can_not_be_read_is_masked_and_the_others_are_answered(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    created = await client.ask("CreateTaskRun", input={"taskKey": "t"})
    with database_of(tmp_path) as database:
        database.execute("ALTER TABLE queue_entry RENAME TO lost")

    answer = await client.send("GetTaskRun", id=created["taskRun"]["id"])

    run = answer["data"]["taskRun"]
    assert (run["id"], run["stateType"], run["queueEntry"]) == (created["taskRun"]["id"], "PENDING", None)
    (error,) = answer["errors"]
    assert error["path"] == ["taskRun", "queueEntry"]
    assert masked(error) in faults_in(caplog)[0].getMessage()


async def test_a_fault_takes_no_other_request_with_it(client: Client, tmp_path: Path) -> None:
    break_creating(tmp_path)
    keys = ["t", "broken"] * 10

    answers = await asyncio.gather(*(client.send("CreateTaskRun", input={"taskKey": key}) for key in keys))

    assert ["errors" in answer for answer in answers] == [False, True] * 10
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 10


async def test_what_the_request_is_at_fault_for_is_not_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for id in ("nonsense", "01a206b2-304f-7000-b2ee-99ddb7de4877"):
        await client.refused("DeleteTaskRun", id=id)

    assert faults_in(caplog) == []


async def test_a_write_that_waits_too_long_for_the_file_is_told_to_try_again_and_nothing_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, database_busy_seconds=0.05) as served:
        with database_of(tmp_path) as other:
            other.execute("BEGIN IMMEDIATE")

            error = await served.client.refused("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})

            assert error == {
                "message": "The database is busy or away; try again.",
                "code": "UNAVAILABLE",
                "retryable": True,
            }
            assert (await served.client.ask("ListTaskRuns"))["totalCount"] == 0
            other.execute("ROLLBACK")

        retried = await served.client.ask("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})
    assert retried["created"] is True
    assert faults_in(caplog) == []


async def test_a_write_waits_for_the_file_while_it_may(server: Serving, tmp_path: Path) -> None:
    with database_of(tmp_path) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(server.client.ask("CreateTaskRun", input={"taskKey": "t"}))
        assert (await server.client.ask("ListTaskRuns"))["totalCount"] == 0

        other.execute("ROLLBACK")

        assert (await writing)["created"] is True


async def test_reads_go_on_while_the_file_is_held(tmp_path: Path) -> None:
    async with serving(tmp_path, database_busy_seconds=0.05) as served:
        created = await served.client.ask("CreateTaskRun", input={"taskKey": "t"})
        with database_of(tmp_path) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM task_run")

            run = await served.client.ask("GetTaskRun", id=created["taskRun"]["id"])

            other.execute("ROLLBACK")
    assert run["id"] == created["taskRun"]["id"]


def test_the_log_has_the_whole_fault_under_each_id_that_it_was_told_by(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError) as caught:
        fail()
    errors = [GraphQLError("disk", path=[path], original_error=caught.value) for path in ("one", "other")]

    for error in errors:
        public_error(error)

    logged = [record.exc_info for record in faults_in(caplog)]
    assert ["fail" in "".join(format_exception(*each)) for each in logged if each] == [True, True]
