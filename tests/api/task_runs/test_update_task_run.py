"""updateTaskRun: changes the fields that are given and nothing else."""

import asyncio
import re

import pytest

from db.statements.queue import queue_entries_by_run
from tests.builders.api_runs import create_flow_run, create_task_run, read_slot_holders, set_task_run_state
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

LATER = "2030-01-01T12:00:05.000000Z"
UPDATED = {"tags": [], "metadata": None, "priority": 0, "expiresAt": None, "updatedAt": LATER}


async def read_entry(server: RunningServer, id: str) -> tuple[int, str | None]:
    """Return the priority and the expiry in the queue entry of a run."""
    entries = await server.services.database.read(lambda connection: queue_entries_by_run(connection, [id]))
    return entries[id].priority, entries[id].expires_at


async def test_a_new_name_is_stored_and_nothing_else_changes(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, name="first")
    server.clock.advance(5)
    before = await client.execute("GetTaskRun", id=id)

    updated = (await client.execute("UpdateTaskRun", id=id, input={"name": "second"}))["taskRun"]

    assert updated == {**UPDATED, "id": id, "name": "second"}
    assert await client.execute("GetTaskRun", id=id) == {**before, "name": "second", "updatedAt": LATER}


async def test_an_empty_update_changes_only_the_updated_time(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, name="first")
    server.clock.advance(5)
    before = await client.execute("GetTaskRun", id=id)

    updated = (await client.execute("UpdateTaskRun", id=id, input={}))["taskRun"]

    assert before["updatedAt"] == "2030-01-01T12:00:00.000000Z"
    assert updated == {**UPDATED, "id": id, "name": "first"}
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

    error = await client.execute_refused("UpdateTaskRun", id=id, input={"name": "second", "taskKey": "x"})

    assert error["code"] == "BAD_USER_INPUT"
    assert await client.execute("GetTaskRun", id=id) == before


async def test_all_fields_are_changed_at_once_and_the_rest_stays(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, name="first", tags=["old"], metadata={"team": "a"}, parameters={"n": 1})
    server.clock.advance(5)
    before = await client.execute("GetTaskRun", id=id)
    changes = {
        "name": "second",
        "tags": ["x", "y", "x"],
        "metadata": {"team": "b", "list": [1, {"a": None}]},
        "priority": -10,
        "expiresAt": "2030-01-01T13:00:00.000000Z",
    }

    updated = (await client.execute("UpdateTaskRun", id=id, input=changes))["taskRun"]

    assert updated == {"id": id, **changes, "updatedAt": LATER}
    assert await client.execute("GetTaskRun", id=id) == {**before, **changes, "updatedAt": LATER}


async def test_null_clears_metadata_and_expiry_and_changes_neither_tags_nor_priority(server: RunningServer) -> None:
    client = server.client
    fields = {"tags": ["x"], "priority": 3, "metadata": {"a": 1}, "expiresAt": "2030-01-01T13:00:00Z"}
    id = await create_task_run(client, name="first", **fields)
    nulls = dict.fromkeys(("tags", "priority", "metadata", "expiresAt"))

    updated = (await client.execute("UpdateTaskRun", id=id, input=nulls))["taskRun"]

    assert (updated["name"], updated["tags"], updated["priority"]) == ("first", ["x"], 3)
    assert (updated["metadata"], updated["expiresAt"]) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("priority", 11, "must be between -10 and 10; got 11."),
        ("priority", -11, "must be between -10 and 10; got -11."),
        ("metadata", [1], "must be a JSON object."),
        ("metadata", "text", "must be a JSON object."),
        ("metadata", {"a": "x" * 65_529}, "must have at most 65,536 bytes as JSON; got 65,537."),
        ("metadata", {"a": "é" * 32_765}, "must have at most 65,536 bytes as JSON; got 65,538."),
        (
            "expiresAt",
            "2030-01-01T12:00:00Z",
            "must be in the future; got 2030-01-01T12:00:00.000000Z, and it is 2030-01-01T12:00:00.000000Z.",
        ),
    ],
)
async def test_an_invalid_value_is_refused_and_nothing_changes(
    client: Client, field: str, value: object, message: str
) -> None:
    id = await create_task_run(client, name="first")
    before = await client.execute("GetTaskRun", id=id)

    error = await client.execute_refused("UpdateTaskRun", id=id, input={"name": "second", field: value})

    argument = f"input.{field}"
    assert error == {"message": f"{argument}: {message}", "code": "BAD_USER_INPUT", "argument": argument}
    assert await client.execute("GetTaskRun", id=id) == before


async def test_metadata_of_exactly_64_kib_is_stored(client: Client) -> None:
    id = await create_task_run(client, name="first")
    metadata = {"a": "x" * 65_528}

    await client.execute("UpdateTaskRun", id=id, input={"metadata": metadata})

    assert (await client.execute("GetTaskRun", id=id))["metadata"] == metadata


async def test_a_task_run_of_a_flow_run_cannot_get_an_expiry_but_a_priority(client: Client) -> None:
    flow_run = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, flowRunId=flow_run)

    error = await client.execute_refused("UpdateTaskRun", id=id, input={"expiresAt": "2031-01-01T00:00:00Z"})
    updated = (await client.execute("UpdateTaskRun", id=id, input={"priority": 10}))["taskRun"]

    assert error["message"] == "input.expiresAt: cannot be set for a task run of a flow run."
    assert (updated["priority"], updated["expiresAt"]) == (10, None)


async def test_the_queue_entry_follows_priority_and_expiry(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, "SCHEDULED", priority=2, expiresAt="2030-01-01T13:00:00Z")
    created = await read_entry(server, id)

    await client.execute("UpdateTaskRun", id=id, input={"priority": 5, "expiresAt": "2030-01-01T14:00:00Z"})
    updated = await read_entry(server, id)
    await client.execute("UpdateTaskRun", id=id, input={"expiresAt": None})

    assert created == (2, "2030-01-01T13:00:00.000000Z")
    assert updated == (5, "2030-01-01T14:00:00.000000Z")
    assert await read_entry(server, id) == (5, None)


async def test_the_expiry_leaves_the_queue_entry_when_the_run_starts(server: RunningServer) -> None:
    client = server.client
    id = await create_task_run(client, "SCHEDULED", expiresAt="2030-01-01T13:00:00Z")
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    await set_task_run_state(client, id, "RUNNING", lease_id=delivery["leaseId"])

    assert await read_entry(server, id) == (0, None)
    assert (await client.execute("GetTaskRun", id=id))["expiresAt"] == "2030-01-01T13:00:00.000000Z"


async def test_a_running_run_keeps_its_slots_when_its_tags_change_and_frees_them_at_its_end(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="old", limit=1)
    await client.execute("SetConcurrencyLimit", tag="new", limit=1)
    id = await create_task_run(client, "RUNNING", tags=["old"])

    await client.execute("UpdateTaskRun", id=id, input={"tags": ["new"]})
    await client.execute("UpdateTaskRun", id=id, input={"tags": []})
    while_running = await read_slot_holders(client, "old"), await read_slot_holders(client, "new")
    await set_task_run_state(client, id, "COMPLETED")

    assert while_running == ([id], [])
    assert await read_slot_holders(client, "old") == []


async def test_the_new_tags_count_from_the_next_running_on(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="old", limit=1)
    await client.execute("SetConcurrencyLimit", tag="new", limit=1)
    id = await create_task_run(client, "RUNNING", tags=["old"])
    await client.execute("UpdateTaskRun", id=id, input={"tags": ["new"]})

    await set_task_run_state(client, id, "FAILED")
    await set_task_run_state(client, id, "RUNNING")

    assert (await read_slot_holders(client, "old"), await read_slot_holders(client, "new")) == ([], [id])


async def test_a_run_that_loses_the_tag_that_it_waits_for_is_delivered(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="full", limit=0)
    id = await create_task_run(client, "SCHEDULED", tags=["full", "other"])
    before = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    await client.execute("UpdateTaskRun", id=id, input={"tags": ["other"]})
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert before == []
    assert delivery["taskRun"]["id"] == id


async def test_a_run_that_loses_a_tag_passes_the_slot_that_it_was_woken_for_on(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="one", limit=1)
    holder = await create_task_run(client, "RUNNING", tags=["one"])
    woken = await create_task_run(client, "SCHEDULED", tags=["one"])
    server.clock.advance(1)
    waiting = await create_task_run(client, "SCHEDULED", tags=["one"])
    assert (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2))["deliveries"] == []
    await set_task_run_state(client, holder, "COMPLETED")

    await client.execute("UpdateTaskRun", id=woken, input={"tags": []})
    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2))["deliveries"]

    assert [each["taskRun"]["id"] for each in deliveries] == [woken, waiting]
