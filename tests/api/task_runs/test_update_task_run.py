"""updateTaskRun: changes the name and nothing else."""

import asyncio
import re

import pytest

from tests.builders.api_runs import create_task_run
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

LATER = "2030-01-01T12:00:05.000000Z"


async def test_a_new_name_is_stored_and_nothing_else_changes(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, name="first")
    server.clock.advance(5)
    before = await client.execute("GetTaskRun", id=id)

    updated = (await client.execute("UpdateTaskRun", id=id, input={"name": "second"}))["taskRun"]

    assert updated == {"id": id, "name": "second", "updatedAt": LATER}
    assert await client.execute("GetTaskRun", id=id) == {**before, "name": "second", "updatedAt": LATER}


async def test_an_empty_update_changes_only_the_updated_time(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, name="first")
    server.clock.advance(5)
    before = await client.execute("GetTaskRun", id=id)

    updated = (await client.execute("UpdateTaskRun", id=id, input={}))["taskRun"]

    assert before["updatedAt"] == "2030-01-01T12:00:00.000000Z"
    assert updated == {"id": id, "name": "first", "updatedAt": LATER}
    assert await client.execute("GetTaskRun", id=id) == {**before, "updatedAt": LATER}


@pytest.mark.parametrize("name", ["", None])
async def test_an_empty_name_and_null_generate_a_new_one(client: Client, name: str | None) -> None:
    id = await create_task_run(client, name="first")

    updated = (await client.execute("UpdateTaskRun", id=id, input={"name": name}))["taskRun"]

    assert re.fullmatch(r"[a-z]+-[a-z]+", updated["name"])
    assert (await client.execute("GetTaskRun", id=id))["name"] == updated["name"]


@pytest.mark.parametrize("name", ["  ", "ünïcödé ✓", "x" * 10_000, "'; DROP TABLE task_run; --"])
async def test_a_name_is_stored_as_sent(client: Client, name: str) -> None:
    id = await create_task_run(client, name="first")

    await client.execute("UpdateTaskRun", id=id, input={"name": name})

    assert (await client.execute("GetTaskRun", id=id))["name"] == name


async def test_other_runs_keep_their_names(client: Client) -> None:
    id, other = await create_task_run(client, name="first"), await create_task_run(client, name="other")

    await client.execute("UpdateTaskRun", id=id, input={"name": "second"})

    assert (await client.execute("GetTaskRun", id=other))["name"] == "other"


async def test_concurrent_updates_of_several_runs_each_return_their_own_run(client: Client) -> None:
    ids = [await create_task_run(client, name=f"old {number}") for number in range(10)]

    payloads = await asyncio.gather(
        *(client.execute("UpdateTaskRun", id=id, input={"name": f"new {number}"}) for number, id in enumerate(ids))
    )

    results = [payload["taskRun"] for payload in payloads]
    assert [(each["id"], each["name"]) for each in results] == [(id, f"new {n}") for n, id in enumerate(ids)]


async def test_concurrent_updates_of_one_run_return_their_names_and_one_persists(client: Client) -> None:
    id = await create_task_run(client, name="first")
    wanted = [f"new {number}" for number in range(10)]

    async with client.socket() as socket:
        # While the first write is in progress, the others are batched into one transaction.
        for name in wanted:
            await socket.subscribe("UpdateTaskRun", id=id, input={"name": name})
        messages = [await socket.receive() for _ in range(20)]

    results = [
        each["payload"]["data"]["updateTaskRun"]["taskRun"]["name"] for each in messages if each["type"] == "next"
    ]
    assert sorted(results) == wanted
    assert (await client.execute("GetTaskRun", id=id))["name"] in wanted


async def test_an_unknown_run_is_not_found_and_nothing_is_created(client: Client) -> None:
    error = await client.execute_refused("UpdateTaskRun", id=UNKNOWN_ID, input={"name": "second"})

    assert error == {"message": f"id: No task run has the id {UNKNOWN_ID}.", "code": "NOT_FOUND", "argument": "id"}
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


async def test_an_upper_case_id_is_accepted(client: Client) -> None:
    id = await create_task_run(client, name="first")

    updated = (await client.execute("UpdateTaskRun", id=id.upper(), input={"name": "second"}))["taskRun"]

    assert (updated["id"], updated["name"]) == (id, "second")


@pytest.mark.parametrize("id", ["", "nonsense", "01a206b2-304f-7000-b2ee-99ddb7de487", "5"])
async def test_a_malformed_id_is_refused_and_nothing_changes(client: Client, id: str) -> None:
    existing = await create_task_run(client, name="first")
    before = await client.execute("GetTaskRun", id=existing)

    error = await client.execute_refused("UpdateTaskRun", id=id, input={"name": "second"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert error["message"].startswith("id: ")
    assert await client.execute("GetTaskRun", id=existing) == before


async def test_an_unknown_field_is_refused_and_nothing_changes(client: Client) -> None:
    id = await create_task_run(client, name="first")
    before = await client.execute("GetTaskRun", id=id)

    error = await client.execute_refused("UpdateTaskRun", id=id, input={"name": "second", "tags": ["x"]})

    assert error["code"] == "BAD_USER_INPUT"
    assert await client.execute("GetTaskRun", id=id) == before
