"""`endedTaskRuns` returns as many runs as fit into a response, and says whether more have ended."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.api_runs import create_task_run
from tests.client import Client
from tests.serving import RunningServer, run_server

BODY = 64 * 1024
MAX_BYTES = 16 * BODY
LONG_TEXT = "x" * 60_000
"""17 of them fit into a response."""

WITH_PARAMETERS = "query ($ids: [ID!]!) { endedTaskRuns(ids: $ids) { ended { id parameters } notFound hasMore } }"
WITH_STATES = "query ($ids: [ID!]!) { endedTaskRuns(ids: $ids) { ended { id parameters states { type } } hasMore } }"
IDS_ONLY = "query ($ids: [ID!]!) { endedTaskRuns(ids: $ids) { ended { id } hasMore } }"


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server with small limits."""
    limits = {"max_body_bytes": BODY, "max_message_bytes": BODY, "max_response_bytes": MAX_BYTES}
    async with run_server(tmp_path, database_url=database_url, **limits) as running:
        yield running


async def create_ended(client: Client, count: int) -> list[str]:
    return [await create_task_run(client, "COMPLETED", parameters=LONG_TEXT) for _ in range(count)]


async def query(client: Client, text: str, ids: list[str]) -> Any:
    response = (await client.http.post("/graphql", json={"query": text, "variables": {"ids": ids}})).json()
    assert "errors" not in response, response
    return response["data"]["endedTaskRuns"]


@pytest.mark.parametrize("text", [WITH_PARAMETERS, WITH_STATES])
async def test_every_run_is_received_by_repeating_the_query_without_those_received(client: Client, text: str) -> None:
    ids = await create_ended(client, 40)
    remaining, received, has_more = ids, list[str](), list[bool]()

    while remaining:
        result = await query(client, text, remaining)
        assert {run["parameters"] for run in result["ended"]} == {LONG_TEXT}
        received += [run["id"] for run in result["ended"]]
        has_more.append(result["hasMore"])
        remaining = [id for id in remaining if id not in received]

    assert received == ids
    # 40 runs do not fit and 20 neither; 10 do. 30 do not fit and 15 do.
    assert has_more == [True, True, False]


async def test_only_selected_fields_count(client: Client) -> None:
    ids = await create_ended(client, 40)

    result = await query(client, IDS_ONLY, ids)

    assert result == {"ended": [{"id": id} for id in ids], "hasMore": False}


async def test_ids_that_are_not_found_are_returned_with_the_first_part(client: Client) -> None:
    ids = await create_ended(client, 40)
    unknown = "00000000-0000-7000-8000-000000000001"

    result = await query(client, WITH_PARAMETERS, [*ids, unknown])

    assert (len(result["ended"]), result["notFound"], result["hasMore"]) == (10, [unknown], True)


async def test_a_run_that_exceeds_the_limit_alone_is_refused(client: Client) -> None:
    (id,) = await create_ended(client, 1)
    aliases = " ".join(f"a{number}: parameters" for number in range(20))
    text = f"query ($ids: [ID!]!) {{ endedTaskRuns(ids: $ids) {{ ended {{ {aliases} }} hasMore }} }}"

    response = (await client.http.post("/graphql", json={"query": text, "variables": {"ids": [id]}})).json()

    assert [error["extensions"]["code"] for error in response["errors"]] == ["RESPONSE_TOO_LARGE"]
