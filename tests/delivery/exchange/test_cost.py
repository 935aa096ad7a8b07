"""What an exchange counts for the limit on cost: its longest list, or its claim, times the selected fields."""

from typing import Any

import pytest

from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import SQLITE_ONLY

pytestmark = SQLITE_ONLY

FIELDS = "{ results { taskRunId } leases { leaseId } deliveries { leaseId attempt } }"
# 20 for the field, 1 for each of its lists, and for each item of a list the item and its fields.
ITEMS_OF_LISTS = 2 + 2 + 3


def report() -> dict[str, Any]:
    return {"taskRunId": UNKNOWN_ID, "state": {"type": "RUNNING"}}


@pytest.mark.parametrize(
    ("variables", "items"),
    [
        ({"reports": [report()] * 5, "renew": [UNKNOWN_ID] * 7, "claim": {"taskKeys": ["t"], "limit": 3}}, 7),
        ({"reports": [report()] * 9, "renew": [UNKNOWN_ID] * 7, "claim": {"taskKeys": ["t"], "limit": 3}}, 9),
        ({"reports": [], "renew": [], "claim": {"taskKeys": ["t"] * 5, "limit": 30}}, 30),
        ({"reports": [], "renew": [], "claim": {"taskKeys": ["t"]}}, 1),
        ({"reports": [], "renew": [], "claim": None}, 0),
    ],
)
async def test_the_longest_part_of_an_exchange_counts(client: Client, variables: dict[str, Any], items: int) -> None:
    query = f"""mutation ($reports: [TaskRunStateChangeInput!]!, $renew: [ID!]!, $claim: ClaimInput) {{
      exchangeTaskRuns(reports: $reports, renew: $renew, claim: $claim) {FIELDS}
    }}"""

    assert await cost_of(client, query, variables) == 20 + 3 + items * ITEMS_OF_LISTS


@pytest.mark.parametrize(
    ("claim", "variables"),
    [
        ('{taskKeys: ["t"], limit: 30}', {"limit": 30}),
        ('{taskKeys: ["t"], limit: $limit}', {"limit": 30}),
    ],
)
async def test_the_limit_of_a_claim_counts_as_a_literal_and_as_a_variable(
    client: Client, claim: str, variables: dict[str, Any]
) -> None:
    query = f"""mutation ($limit: Int! = 1) {{
      exchangeTaskRuns(reports: [], renew: [], claim: {claim}) {FIELDS}
      deleteTaskRuns(filter: {{id: {{in: []}}}}, limit: $limit) {{ matched }}
    }}"""

    assert await cost_of(client, query, variables) == 20 + 3 + 30 * ITEMS_OF_LISTS + 20 + 1


async def test_the_limit_of_a_claim_without_an_exchange_counts_too(client: Client) -> None:
    query = 'mutation { claimTaskRuns(taskKeys: ["t"], limit: 30) { deliveries { leaseId attempt } } }'

    assert await cost_of(client, query, {}) == 20 + 1 + 30 * 3


async def cost_of(client: Client, query: str, variables: dict[str, Any]) -> int:
    body = {"query": query, "variables": variables, "extensions": {"cost": True}}
    return (await client.http.post("/graphql", json=body)).json()["extensions"]["cost"]["found"]
