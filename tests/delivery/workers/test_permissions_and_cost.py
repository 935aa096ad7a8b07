"""Which tokens may list workers and report progress, and what they count for the limit on cost."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from queries import document
from tests.bearer_tokens import bearer_headers, post_query
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server

ID = "00000000-0000-7000-8000-000000000001"
VARIABLES: dict[str, dict[str, Any]] = {
    "ListWorkers": {},
    "ReportTaskRunProgress": {"reports": [{"leaseId": ID, "done": 1}]},
}


@pytest.fixture
async def server_with_tokens(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


async def codes(server: RunningServer, operation: str) -> dict[str, list[str]]:
    """Execute the operation with a token of each scope, and return the codes of the errors by scope."""
    found: dict[str, list[str]] = {}
    for scope in ("read", "write", "work"):
        headers = await bearer_headers(server, scope)
        response = await post_query(server.client, document(operation)[0], headers, variables=VARIABLES[operation])
        found[scope] = [error["extensions"]["code"] for error in response.json().get("errors", [])]
    return found


@SQLITE_ONLY
async def test_readers_may_list_workers(server_with_tokens: RunningServer) -> None:
    found = await codes(server_with_tokens, "ListWorkers")

    assert found == {"read": [], "write": [], "work": ["FORBIDDEN"]}


@SQLITE_ONLY
async def test_only_workers_may_report_progress(server_with_tokens: RunningServer) -> None:
    found = await codes(server_with_tokens, "ReportTaskRunProgress")

    assert found == {"read": ["FORBIDDEN"], "write": ["FORBIDDEN"], "work": []}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("query", "cost"),
    [
        # 20 for a field with a resolver, 1 for each other field, and for each item of a list the item and its fields.
        ("{ workers { name taskKeys } }", 20 + 1000 * 3),
        ('{ workers(taskKeys: ["t"]) { name } }', 20 + 1000 * 2),
        ("{ taskRuns(first: 7) { nodes { queueEntry { waitReason } } } }", 60 + 1 + 7 * (1 + 20 + 20)),
        (
            f'mutation {{ reportTaskRunProgress(reports: [{{leaseId: "{ID}", done: 1}}, {{leaseId: "{ID}", done: 2}}])'
            " { leases { status } } }",
            20 + 1 + 2 * 2,
        ),
    ],
)
async def test_the_cost_of_an_operation(client: Client, query: str, cost: int) -> None:
    response = await client.http.post("/graphql", json={"query": query, "extensions": {"cost": True}})

    assert response.json()["extensions"] == {"cost": {"found": cost, "allowed": 200_000}}
