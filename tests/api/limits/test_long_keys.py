"""What is looked up by is no longer than both kinds of database can find it by, however well it could be compressed."""

import random
from typing import Any

import pytest

from tests.client import Client

LETTERS = [chr(letter) for letter in range(0x1F300, 0x1F5FF)]
"""Each takes four bytes."""


def text_of(bytes_: int) -> str:
    """A text of so many bytes that can not be compressed."""
    return "".join(random.Random(1).choices(LETTERS, k=bytes_ // 4))  # noqa: S311 - a sample, no secret


def run_with(key: str) -> dict[str, Any]:
    return {"input": {"taskKey": key, "dynamicKey": key[::-1], "state": {"type": "SCHEDULED"}}}


def cached_with(key: str) -> dict[str, Any]:
    return {"input": {"taskKey": "t", "state": {"type": "COMPLETED", "details": {"cacheKey": key}}}}


async def test_keys_of_the_longest_kind_are_found_again(client: Client) -> None:
    longest = text_of(1000)

    for created in (True, False):
        assert (await client.ask("CreateTaskRun", **run_with(longest)))["created"] is created
        assert (await client.ask("CreateFlow", input={"name": longest}))["created"] is created
    flow_id = (await client.ask("ListFlows"))["nodes"][0]["id"]
    for created in (True, False):
        run = await client.ask("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": longest})
        assert run["created"] is created
    assert (await client.ask("CreateConcurrencyLimit", tag=longest, limit=1))["tag"] == longest
    assert (await client.ask("CreateTaskRun", **cached_with(text_of(2000))))["created"] is True


@pytest.mark.parametrize(
    ("operation", "variables", "argument", "most"),
    [
        ("CreateTaskRun", {"input": {"taskKey": text_of(1004)}}, "input.taskKey", 1000),
        ("CreateTaskRun", {"input": {"taskKey": "t", "dynamicKey": text_of(1004)}}, "input.dynamicKey", 1000),
        ("CreateTaskRun", cached_with(text_of(2004)), "input.state.details.cacheKey", 2000),
        ("CreateFlow", {"input": {"name": text_of(1004)}}, "input.name", 1000),
        (
            "CreateFlowRun",
            {"input": {"flowId": "01a206b2-303f-7000-b0b3-40b8ceb3f489", "idempotencyKey": text_of(1004)}},
            "input.idempotencyKey",
            1000,
        ),
        ("CreateConcurrencyLimit", {"tag": text_of(1004), "limit": 1}, "tag", 1000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_longer_key_is_refused_and_nothing_is_created(
    client: Client, operation: str, variables: dict[str, Any], argument: str, most: int
) -> None:
    refused = await client.refused(operation, **variables)

    message = f"{argument}: may have at most {most:,} bytes, not {most + 4:,}."
    assert refused == {"message": message, "code": "BAD_USER_INPUT", "argument": argument}
    assert await client.ask("CountTaskRuns") == 0
    assert (await client.ask("ListFlows"))["nodes"] == []
    assert await client.ask("ListConcurrencyLimits") == []
