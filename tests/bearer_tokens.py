"""Requests with bearer tokens, for servers that require tokens."""

from typing import Any

import httpx

from db.database import Database
from resolvers.api_tokens import revoke_tokens
from tests.builders.tokens import create_token
from tests.client import Client
from tests.serving import RunningServer


async def bearer_headers(server: RunningServer, *scopes: str, **fields: Any) -> dict[str, str]:
    """Create a token and return its Authorization header."""
    token = await create_token(server.services.database, *scopes, **fields)
    return {"Authorization": f"Bearer {token.text}"}


async def post_query(client: Client, query: str, headers: dict[str, str], **more: Any) -> httpx.Response:
    """Send the query with these headers; `more` are other members of the request body."""
    return await client.http.post("/graphql", json={"query": query, **more}, headers=headers)


async def revoke(database: Database, headers: dict[str, str]) -> None:
    """Revoke the token of an Authorization header."""
    await database.write(revoke_tokens, headers["Authorization"].removeprefix("Bearer "))
