"""Keys are limited to the length that both kinds of database can index, however well they compress."""

import random
from typing import Any

import pytest

from tests.client import Client

LETTERS = [chr(letter) for letter in range(0x1F300, 0x1F5FF)]
"""Characters that take four bytes each in UTF-8."""


def incompressible(bytes_: int) -> str:
    """Return an incompressible string of `bytes_` bytes."""
    return "".join(random.Random(1).choices(LETTERS, k=bytes_ // 4))  # noqa: S311 - sample data, not a secret


def run_variables(key: str) -> dict[str, Any]:
    return {"input": {"taskKey": key, "dynamicKey": key[::-1], "state": {"type": "SCHEDULED"}}}


def cached_run_variables(key: str) -> dict[str, Any]:
    return {"input": {"taskKey": "t", "state": {"type": "COMPLETED", "details": {"cacheKey": key}}}}


async def test_keys_of_the_maximum_length_are_found_again(client: Client) -> None:
    longest = incompressible(1000)

    for created in (True, False):
        assert (await client.execute("CreateTaskRun", **run_variables(longest)))["created"] is created
        assert (await client.execute("CreateFlow", input={"name": longest}))["created"] is created
    flow_id = (await client.execute("ListFlows"))["nodes"][0]["id"]
    for created in (True, False):
        run = await client.execute("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": longest})
        assert run["created"] is created
    assert (await client.execute("SetConcurrencyLimit", tag=longest, limit=1))["concurrencyLimit"]["tag"] == longest
    assert (await client.execute("CreateTaskRun", **cached_run_variables(incompressible(2000))))["created"] is True


@pytest.mark.parametrize(
    ("operation", "variables", "argument", "limit"),
    [
        ("CreateTaskRun", {"input": {"taskKey": incompressible(1004)}}, "input.taskKey", 1000),
        ("CreateTaskRun", {"input": {"taskKey": "t", "dynamicKey": incompressible(1004)}}, "input.dynamicKey", 1000),
        ("CreateTaskRun", cached_run_variables(incompressible(2004)), "input.state.details.cacheKey", 2000),
        ("CreateFlow", {"input": {"name": incompressible(1004)}}, "input.name", 1000),
        (
            "CreateFlowRun",
            {"input": {"flowId": "01a206b2-303f-7000-b0b3-40b8ceb3f489", "idempotencyKey": incompressible(1004)}},
            "input.idempotencyKey",
            1000,
        ),
        ("SetConcurrencyLimit", {"tag": incompressible(1004), "limit": 1}, "tag", 1000),
        ("ClaimTaskRuns", {"taskKeys": ["t", incompressible(1004)]}, "taskKeys.1", 1000),
        (
            "ExchangeTaskRuns",
            {"reports": [], "renew": [], "claim": {"taskKeys": [incompressible(1004)]}},
            "claim.taskKeys.0",
            1000,
        ),
        ("PauseTaskQueue", {"taskKey": incompressible(1004)}, "taskKey", 1000),
        ("ResumeTaskQueue", {"taskKey": incompressible(1004)}, "taskKey", 1000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_longer_key_is_refused_and_nothing_is_created(
    client: Client, operation: str, variables: dict[str, Any], argument: str, limit: int
) -> None:
    refused = await client.execute_refused(operation, **variables)

    message = f"{argument}: must have at most {limit:,} bytes; got {limit + 4:,}."
    assert refused == {"message": message, "code": "BAD_USER_INPUT", "argument": argument}
    assert await client.execute("CountTaskRuns") == 0
    assert (await client.execute("ListFlows"))["nodes"] == []
    assert await client.execute("ListConcurrencyLimits") == []


async def test_a_subscription_refuses_a_longer_key(client: Client) -> None:
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=[incompressible(1004)])
        (error,) = (await socket.receive())["payload"]

    message = "taskKeys.0: must have at most 1,000 bytes; got 1,004."
    extensions = error["extensions"]
    assert (error["message"], extensions["code"], extensions["argument"]) == (message, "BAD_USER_INPUT", "taskKeys.0")


async def test_a_worker_claims_and_receives_runs_of_a_key_of_the_maximum_length(client: Client) -> None:
    longest = incompressible(1000)
    for dynamic_key in ("1", "2"):
        input = {"taskKey": longest, "dynamicKey": dynamic_key, "state": {"type": "SCHEDULED"}}
        await client.execute("CreateTaskRun", input=input)

    (claimed,) = (await client.execute("ClaimTaskRuns", taskKeys=[longest]))["deliveries"]
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=[longest])
        (received,) = await socket.deliveries(1)

    assert [each["taskRun"]["taskKey"] for each in (claimed, received)] == [longest, longest]
