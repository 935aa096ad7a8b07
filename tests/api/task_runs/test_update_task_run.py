"""updateTaskRun: another name, and nothing else."""

import asyncio
import re

import pytest

from tests.client import Client
from tests.serving import Serving

LATER = "2030-01-01T12:00:05.000000Z"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def create(client: Client, name: str = "first") -> str:
    return (await client.ask("CreateTaskRun", input={"taskKey": "t", "name": name}))["taskRun"]["id"]


async def test_a_new_name_is_kept_and_nothing_else_changes(server: Serving) -> None:
    client = server.client
    id = await create(client)
    server.clock.advance(5)
    before = await client.ask("GetTaskRun", id=id)

    updated = await client.ask("UpdateTaskRun", id=id, input={"name": "second"})

    assert updated == {"id": id, "name": "second", "updated": LATER}
    assert await client.ask("GetTaskRun", id=id) == {**before, "name": "second", "updated": LATER}


async def test_an_update_of_nothing_moves_updated_alone(server: Serving) -> None:
    client = server.client
    id = await create(client)
    server.clock.advance(5)
    before = await client.ask("GetTaskRun", id=id)

    updated = await client.ask("UpdateTaskRun", id=id, input={})

    assert before["updated"] == "2030-01-01T12:00:00.000000Z"
    assert updated == {"id": id, "name": "first", "updated": LATER}
    assert await client.ask("GetTaskRun", id=id) == {**before, "updated": LATER}


@pytest.mark.parametrize("name", ["", None])
async def test_an_empty_name_and_null_make_up_a_fresh_one(client: Client, name: str | None) -> None:
    id = await create(client)

    updated = await client.ask("UpdateTaskRun", id=id, input={"name": name})

    assert re.fullmatch(r"[a-z]+-[a-z]+", updated["name"])
    assert (await client.ask("GetTaskRun", id=id))["name"] == updated["name"]


@pytest.mark.parametrize("name", ["  ", "ünïcödé ✓", "x" * 10_000, "'; DROP TABLE task_run; --"])
async def test_a_name_is_kept_as_it_was_sent(client: Client, name: str) -> None:
    id = await create(client)

    await client.ask("UpdateTaskRun", id=id, input={"name": name})

    assert (await client.ask("GetTaskRun", id=id))["name"] == name


async def test_another_run_keeps_its_name(client: Client) -> None:
    id, other = await create(client), await create(client, "other")

    await client.ask("UpdateTaskRun", id=id, input={"name": "second"})

    assert (await client.ask("GetTaskRun", id=other))["name"] == "other"


async def test_concurrent_updates_of_several_runs_each_have_their_own_answer(client: Client) -> None:
    ids = [await create(client, f"old {number}") for number in range(10)]

    answers = await asyncio.gather(
        *(client.ask("UpdateTaskRun", id=id, input={"name": f"new {number}"}) for number, id in enumerate(ids))
    )

    assert [(each["id"], each["name"]) for each in answers] == [(id, f"new {n}") for n, id in enumerate(ids)]


async def test_concurrent_updates_of_one_run_each_see_their_own_name_and_one_stays(client: Client) -> None:
    id = await create(client)
    wanted = [f"new {number}" for number in range(10)]

    async with client.socket() as socket:
        # While the first write is under way, the others gather for one transaction.
        for name in wanted:
            await socket.subscribe("UpdateTaskRun", id=id, input={"name": name})
        messages = [await socket.receive() for _ in range(20)]

    answers = [each["payload"]["data"]["updateTaskRun"]["name"] for each in messages if each["type"] == "next"]
    assert sorted(answers) == wanted
    assert (await client.ask("GetTaskRun", id=id))["name"] in wanted


async def test_a_run_that_is_not_there_is_not_found_and_nothing_is_made(client: Client) -> None:
    error = await client.refused("UpdateTaskRun", id=NOWHERE, input={"name": "second"})

    assert error == {"message": f"No task run has the id {NOWHERE}.", "code": "NOT_FOUND"}
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 0


async def test_an_id_is_read_in_upper_case_too(client: Client) -> None:
    id = await create(client)

    updated = await client.ask("UpdateTaskRun", id=id.upper(), input={"name": "second"})

    assert (updated["id"], updated["name"]) == (id, "second")


@pytest.mark.parametrize("id", ["", "nonsense", "01a206b2-304f-7000-b2ee-99ddb7de487", "5"])
async def test_a_malformed_id_is_refused_and_nothing_changes(client: Client, id: str) -> None:
    there = await create(client)
    before = await client.ask("GetTaskRun", id=there)

    error = await client.refused("UpdateTaskRun", id=id, input={"name": "second"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert error["message"].startswith("id: ")
    assert await client.ask("GetTaskRun", id=there) == before


async def test_an_unknown_field_is_refused_and_nothing_changes(client: Client) -> None:
    id = await create(client)
    before = await client.ask("GetTaskRun", id=id)

    error = await client.refused("UpdateTaskRun", id=id, input={"name": "second", "tags": ["x"]})

    assert error["code"] == "BAD_USER_INPUT"
    assert await client.ask("GetTaskRun", id=id) == before
