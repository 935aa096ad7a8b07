"""Which tokens may wait, and what a wait counts for the limit on cost."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from queries import document
from tests.bearer_tokens import bearer_headers, post_query
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server

ID = "00000000-0000-7000-8000-000000000001"
VARIABLES = {"EndedTaskRuns": {"ids": [ID]}, "LeaseSignals": {"leaseIds": [ID]}}


@pytest.fixture
async def server_with_tokens(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


async def codes(server: RunningServer, operation: str, scope: str) -> list[str]:
    """Execute the operation with a token that has this scope, and return the codes of its errors."""
    headers = await bearer_headers(server, scope)
    response = await post_query(server.client, document(operation)[0], headers, variables=VARIABLES[operation])
    return [error["extensions"]["code"] for error in response.json().get("errors", [])]


@SQLITE_ONLY
async def test_readers_and_workers_may_wait_for_the_end_of_runs(server_with_tokens: RunningServer) -> None:
    found = {scope: await codes(server_with_tokens, "EndedTaskRuns", scope) for scope in ("read", "write", "work")}

    assert found == {"read": [], "write": [], "work": []}


@SQLITE_ONLY
async def test_only_workers_may_wait_for_signals_of_leases(server_with_tokens: RunningServer) -> None:
    found = {scope: await codes(server_with_tokens, "LeaseSignals", scope) for scope in ("read", "write", "work")}

    assert found == {"read": ["FORBIDDEN"], "write": ["FORBIDDEN"], "work": []}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("query", "cost"),
    [
        # 20 for the field, 1 for each other field, and for each id the run and its two fields.
        (
            "query ($ids: [ID!]!) { endedTaskRuns(ids: $ids) { ended { id stateType } notFound hasMore } }",
            20 + 3 + 7 * 3,
        ),
        ("query ($ids: [ID!]!) { leaseSignals(leaseIds: $ids) { leases { leaseId status } } }", 20 + 1 + 7 * 3),
    ],
)
async def test_a_wait_costs_its_ids_times_the_selected_fields(client: Client, query: str, cost: int) -> None:
    body: dict[str, Any] = {"query": query, "variables": {"ids": [ID] * 7}, "extensions": {"cost": True}}

    result = (await client.http.post("/graphql", json=body)).json()

    assert result["extensions"] == {"cost": {"found": cost, "allowed": 200_000}}
