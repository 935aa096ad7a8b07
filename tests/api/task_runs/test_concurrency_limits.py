"""Concurrency limits by tag: set, read, list, reset, delete. The rule take_concurrency_slots applies them to runs."""

from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, read_slot_holders
from tests.builders.ids import UNKNOWN_ID
from tests.builders.queued_runs import create_scheduled
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def create_limit(client: Client, tag: str, allowed: int) -> dict[str, Any]:
    return (await client.execute("SetConcurrencyLimit", tag=tag, limit=allowed))["concurrencyLimit"]


def holders_of(limit: dict[str, Any]) -> list[str]:
    """Return the ids of the task runs that hold a slot of the limit, in the order in which they took it."""
    return [slot["taskRunId"] for slot in limit["slots"]]


async def claim(client: Client, count: int) -> list[str]:
    """Claim exactly this number of due runs and return their leases."""
    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=count))["deliveries"]
    assert len(deliveries) == count
    return [delivery["leaseId"] for delivery in deliveries]


async def wait_for_slot(client: Client, id: str, lease_id: str) -> None:
    """Propose RUNNING, which must be delayed."""
    result = await client.execute("SetTaskRunState", id=id, leaseId=lease_id, state={"type": "RUNNING"})
    assert result["status"] == "WAIT"


async def waiting_counts(client: Client) -> dict[str, int]:
    """Return the number of waiting runs of each limit, by tag."""
    return {each["tag"]: each["waitingCount"] for each in await client.execute("ListConcurrencyLimits")}


@pytest.mark.parametrize("allowed", [5, 0, -1])
async def test_a_limit_is_created_with_free_slots(client: Client, allowed: int) -> None:
    created = await create_limit(client, "x", allowed)

    assert created == {
        "id": created["id"],
        "createdAt": NOW,
        "updatedAt": NOW,
        "tag": "x",
        "limit": allowed,
        "slots": [],
        "waitingCount": 0,
    }
    assert await client.execute("GetConcurrencyLimit", tag="x") == created


async def test_creating_a_limit_again_updates_it_and_keeps_its_slots(server: RunningServer) -> None:
    client = server.client
    first = await create_limit(client, "x", 2)
    ids = sorted(
        [await create_task_run(client, "RUNNING", tags=["x"]), await create_task_run(client, "RUNNING", tags=["x"])]
    )
    server.clock.advance(5)

    second = await create_limit(client, "x", 1)

    assert second == {
        **first,
        "updatedAt": "2030-01-01T12:00:05.000000Z",
        "limit": 1,
        "slots": [{"taskRunId": id, "acquiredAt": NOW} for id in ids],
    }
    assert await client.execute("ListConcurrencyLimits") == [second]


async def test_a_lowered_limit_keeps_its_holders_and_admits_no_further_runs(client: Client) -> None:
    await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    waiting = await create_task_run(client, "PENDING", tags=["x"])

    await create_limit(client, "x", 0)

    result = await client.execute("SetTaskRunState", id=waiting, state={"type": "RUNNING"})
    assert (result["status"], result["stateCreated"], len(await read_slot_holders(client, "x"))) == ("ABORT", False, 1)


async def test_a_raised_limit_admits_further_runs(client: Client) -> None:
    await create_limit(client, "x", 1)
    first, second = (
        await create_task_run(client, "RUNNING", tags=["x"]),
        await create_task_run(client, "PENDING", tags=["x"]),
    )

    await create_limit(client, "x", 2)

    result = await client.execute("SetTaskRunState", id=second, state={"type": "RUNNING"})
    assert result["status"] == "ACCEPT"
    assert await read_slot_holders(client, "x") == sorted([first, second])


@pytest.mark.parametrize("tag", ["", " ", "a/b", "ünïcödé ✓", "x" * 1000])
async def test_a_limit_may_be_on_any_tag(client: Client, tag: str) -> None:
    created = await create_limit(client, tag, 1)

    assert (created["tag"], await client.execute("GetConcurrencyLimit", tag=tag)) == (tag, created)


async def test_a_tag_with_a_nul_is_refused_and_nothing_is_created(client: Client) -> None:
    error = await client.execute_refused("SetConcurrencyLimit", tag="a\0b", limit=1)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "tag")
    assert await client.execute("ListConcurrencyLimits") == []


async def test_the_limit_of_an_unlimited_tag_is_null(client: Client) -> None:
    await create_limit(client, "Red", 1)

    assert await client.execute("GetConcurrencyLimit", tag="red") is None


async def test_limits_are_listed_in_tag_order_with_their_own_slots(client: Client) -> None:
    for tag in ("b", "B", "a", "c"):
        await create_limit(client, tag, 1)
    id = await create_task_run(client, "RUNNING", tags=["a", "c"])

    listed = await client.execute("ListConcurrencyLimits")

    assert [(each["tag"], holders_of(each)) for each in listed] == [("B", []), ("a", [id]), ("b", []), ("c", [id])]


async def test_the_slots_of_a_limit_name_their_runs_in_the_order_of_acquisition(server: RunningServer) -> None:
    client = server.client
    await create_limit(client, "x", 2)
    later = await create_task_run(client, "PENDING", tags=["x"], name="later")
    await create_task_run(client, "RUNNING", tags=["x"], name="first")
    server.clock.advance(5)
    await client.execute("SetTaskRunState", id=later, state={"type": "RUNNING"})

    slots = (await client.execute("GetConcurrencyLimit", tag="x"))["slots"]

    assert [(each["acquiredAt"], each["taskRun"]["name"], each["taskRun"]["stateName"]) for each in slots] == [
        (NOW, "first", "Running"),
        ("2030-01-01T12:00:05.000000Z", "later", "Running"),
    ]
    assert [each["taskRun"]["id"] for each in slots] == [each["taskRunId"] for each in slots]


async def test_waiting_runs_are_counted_leased_or_released(client: Client) -> None:
    waiting = [await create_scheduled(client, tags=["x", "x"]) for _ in range(2)]
    await create_scheduled(client, tags=["y"], task_key="u")
    leases = await claim(client, 2)
    await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    before = await waiting_counts(client)

    for id, lease in zip(waiting, leases, strict=True):
        await wait_for_slot(client, id, lease)
    await client.execute("ReleaseTaskRuns", leaseIds=leases[:1], delaySeconds=30)

    assert (before, await waiting_counts(client)) == ({"x": 0}, {"x": 2})


@pytest.mark.parametrize(("allowed", "status"), [(1, "WAIT"), (0, "ABORT"), (-1, "WAIT")])
async def test_a_waiting_run_is_counted_for_the_limit_that_it_waits_for(
    client: Client, allowed: int, status: str
) -> None:
    id = await create_scheduled(client, tags=["free", "full"])
    (lease,) = await claim(client, 1)
    for tag, limit in (("free", 1), ("full", 1), ("other", 0)):
        await create_limit(client, tag, limit)
    await create_task_run(client, "RUNNING", tags=["full"])
    await create_limit(client, "full", allowed)

    result = await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})

    assert (result["status"], await waiting_counts(client)) == (status, {"free": 0, "full": 1, "other": 0})


async def test_a_run_is_counted_until_its_worker_or_the_queue_gets_the_free_slot(client: Client) -> None:
    leased, queued = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    (lease,) = await claim(client, 1)
    await create_limit(client, "x", 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    await wait_for_slot(client, leased, lease)
    assert (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"] == []
    before = await waiting_counts(client)

    await client.execute("SetTaskRunState", id=holder, state={"type": "COMPLETED"})

    # The worker of the leased run does not know of the slot; the queued run is due.
    assert (before, await waiting_counts(client)) == ({"x": 2}, {"x": 1})
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    assert delivery["taskRun"]["id"] == queued


async def test_a_run_that_gets_its_slot_no_longer_waits(client: Client) -> None:
    id = await create_scheduled(client, tags=["x"])
    (lease,) = await claim(client, 1)
    await create_limit(client, "x", 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    await wait_for_slot(client, id, lease)
    await client.execute("SetTaskRunState", id=holder, state={"type": "COMPLETED"})

    await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})

    limit = await client.execute("GetConcurrencyLimit", tag="x")
    assert (limit["waitingCount"], holders_of(limit)) == (0, [id])


@SQLITE_ONLY
@pytest.mark.parametrize("size", [1, 20])
async def test_limits_with_their_slots_and_waiting_runs_take_four_statements(server: RunningServer, size: int) -> None:
    client = server.client
    for number in range(size):
        await create_limit(client, f"x{number}", 1)
        await create_task_run(client, "RUNNING", tags=[f"x{number}"])
    query = "{ concurrencyLimits { tag waitingCount slots { acquiredAt taskRun { name state { name } } } } }"

    async with server.record_reads() as statements:
        response = await client.http.post("/graphql", json={"query": query})

    assert len(response.json()["data"]["concurrencyLimits"]) == size
    assert len(statements) == 4


async def test_without_limits_the_list_is_empty(client: Client) -> None:
    assert await client.execute("ListConcurrencyLimits") == []


async def test_a_reset_frees_every_slot_of_its_tag_only(client: Client) -> None:
    first, other = await create_limit(client, "x", 2), await create_limit(client, "y", 1)
    id = await create_task_run(client, "RUNNING", tags=["x", "y"])

    reset = (await client.execute("ResetConcurrencyLimit", tag="x"))["concurrencyLimit"]

    assert reset == {**first, "slots": []}
    assert await client.execute("ListConcurrencyLimits") == [
        reset,
        {**other, "slots": [{"taskRunId": id, "acquiredAt": NOW}]},
    ]
    assert (await client.execute("GetTaskRunState", id=id))["stateType"] == "RUNNING"


async def test_a_reset_assigns_the_slots_to_the_named_runs_only(client: Client) -> None:
    await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    named = [await create_task_run(client, "PENDING") for _ in range(2)]

    reset = (await client.execute("ResetConcurrencyLimit", tag="x", taskRunIds=[*reversed(named), named[0]]))[
        "concurrencyLimit"
    ]

    assert holders_of(reset) == sorted(named)
    assert await read_slot_holders(client, "x") == sorted(named)
    refused = await client.execute(
        "SetTaskRunState", id=await create_task_run(client, "PENDING", tags=["x"]), state={"type": "RUNNING"}
    )
    assert refused["status"] == "WAIT"


async def test_a_run_that_keeps_its_slot_in_a_reset_keeps_its_time(server: RunningServer) -> None:
    client = server.client
    await create_limit(client, "x", 2)
    kept, freed = [await create_task_run(client, "RUNNING", tags=["x"]) for _ in range(2)]
    named = await create_task_run(client, "PENDING")
    server.clock.advance(5)

    reset = (await client.execute("ResetConcurrencyLimit", tag="x", taskRunIds=[named, kept]))["concurrencyLimit"]

    assert freed not in holders_of(reset)
    assert reset["slots"] == [
        {"taskRunId": kept, "acquiredAt": NOW},
        {"taskRunId": named, "acquiredAt": "2030-01-01T12:00:05.000000Z"},
    ]


async def test_a_run_that_lost_its_slot_to_a_reset_may_complete(client: Client) -> None:
    await create_limit(client, "x", 1)
    id = await create_task_run(client, "RUNNING", tags=["x"])
    await client.execute("ResetConcurrencyLimit", tag="x")

    result = await client.execute("SetTaskRunState", id=id, state={"type": "COMPLETED"})

    assert (result["status"], await read_slot_holders(client, "x")) == ("ACCEPT", [])


async def test_resetting_a_tag_without_a_limit_is_not_found_and_creates_none(client: Client) -> None:
    error = await client.execute_refused(
        "ResetConcurrencyLimit", tag="x", taskRunIds=[await create_task_run(client, "RUNNING")]
    )

    assert error == {
        "message": "tag: No concurrency limit has the tag x.",
        "code": "NOT_FOUND",
        "argument": "tag",
    }
    assert await client.execute("ListConcurrencyLimits") == []


@pytest.mark.parametrize(
    ("wrong", "code", "argument"),
    [(UNKNOWN_ID, "NOT_FOUND", "taskRunIds.1"), ("nonsense", "BAD_USER_INPUT", "taskRunIds.1")],
)
async def test_a_reset_to_an_unknown_run_is_refused_and_frees_nothing(
    client: Client, wrong: str, code: str, argument: str
) -> None:
    await create_limit(client, "x", 2)
    holder, named = await create_task_run(client, "RUNNING", tags=["x"]), await create_task_run(client, "RUNNING")

    error = await client.execute_refused("ResetConcurrencyLimit", tag="x", taskRunIds=[named, wrong])

    assert (error["code"], error["argument"]) == (code, argument)
    assert await read_slot_holders(client, "x") == [holder]


async def test_a_deleted_limit_no_longer_exists_or_limits_its_tag(client: Client) -> None:
    first, other = await create_limit(client, "x", 1), await create_limit(client, "y", 1)
    await create_task_run(client, "RUNNING", tags=["x"])

    deleted = (await client.execute("DeleteConcurrencyLimit", tag="x"))["deletedId"]

    assert deleted == first["id"]
    assert await client.execute("GetConcurrencyLimit", tag="x") is None
    assert await client.execute("ListConcurrencyLimits") == [other]
    await create_task_run(client, "RUNNING", tags=["x"])


async def test_a_recreated_limit_has_no_slots_of_the_old_one(client: Client) -> None:
    first = await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    await client.execute("DeleteConcurrencyLimit", tag="x")

    second = await create_limit(client, "x", 1)

    assert second["id"] != first["id"]
    assert second["slots"] == []


async def test_deleting_it_again_is_not_found(client: Client) -> None:
    await create_limit(client, "x", 1)
    other = await create_limit(client, "y", 1)
    await client.execute("DeleteConcurrencyLimit", tag="x")

    error = await client.execute_refused("DeleteConcurrencyLimit", tag="x")

    assert error == {
        "message": "tag: No concurrency limit has the tag x.",
        "code": "NOT_FOUND",
        "argument": "tag",
    }
    assert await client.execute("ListConcurrencyLimits") == [other]


async def test_one_of_ten_concurrent_deletes_succeeds(client: Client) -> None:
    created = await create_limit(client, "x", 1)

    async with client.socket() as socket:
        # While the first write is in progress, the deletes are batched into one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        deletes = [await socket.subscribe("DeleteConcurrencyLimit", tag="x") for _ in range(10)]
        messages = [await socket.receive() for _ in range(22)]

    results = [each["payload"] for each in messages if each["id"] in deletes and each["type"] == "next"]
    assert [result["data"] for result in results].count({"deleteConcurrencyLimit": {"deletedId": created["id"]}}) == 1
    assert [each["errors"][0]["extensions"]["code"] for each in results if "errors" in each] == ["NOT_FOUND"] * 9
