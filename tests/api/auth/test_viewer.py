"""`viewer` and `server`: what a client can ask about itself and the server, whatever its scopes are."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from queries import document
from tests.bearer_tokens import bearer_headers, post_query
from tests.client import Client
from tests.serving import RunningServer, run_server
from tests.websocket_messages import send_connection_init


@pytest.fixture
async def server_with_tokens(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


async def execute(server: RunningServer, headers: dict[str, str], operation: str) -> dict[str, Any]:
    """Execute a document of `queries/` with this token and return its data."""
    response = (await post_query(server.client, document(operation)[0], headers)).json()
    assert "errors" not in response, response
    return response["data"]


async def test_the_viewer_is_the_token_of_the_request(server_with_tokens: RunningServer) -> None:
    server = server_with_tokens
    named = await bearer_headers(server, "work", "read", name="mill-1", lifetime=timedelta(days=1))
    unnamed = await bearer_headers(server, "write")

    viewers = [await execute(server, headers, "GetViewer") for headers in (named, unnamed)]

    assert viewers == [
        {"viewer": {"name": "mill-1", "scopes": ["READ", "WORK"], "expiresAt": "2030-01-02T12:00:00.000000Z"}},
        {"viewer": {"name": None, "scopes": ["WRITE"], "expiresAt": None}},
    ]


async def test_the_viewer_over_a_websocket_is_the_token_of_its_connection(server_with_tokens: RunningServer) -> None:
    headers = await bearer_headers(server_with_tokens, "work", name="mill-1")

    async with server_with_tokens.client.raw_socket() as connection:
        socket = await send_connection_init(connection, headers)
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe("GetViewer")
        viewer = await socket.event()

    assert viewer == {"name": "mill-1", "scopes": ["WORK"], "expiresAt": None}


async def test_the_viewer_is_null_where_no_token_is_required(client: Client) -> None:
    assert await client.execute("GetViewer") is None


@pytest.mark.parametrize("scope", ["read", "write", "work"])
@pytest.mark.parametrize("operation", ["GetViewer", "GetServer", "GetServerLimits"])
async def test_every_scope_may_ask_for_the_viewer_and_the_server(
    server_with_tokens: RunningServer, operation: str, scope: str
) -> None:
    data = await execute(server_with_tokens, await bearer_headers(server_with_tokens, scope), operation)

    assert [value is None for value in data.values()] == [False]


async def test_the_limits_of_the_server_are_those_of_its_settings(database_url: str, tmp_path: Path) -> None:
    async with run_server(
        tmp_path,
        database_url=database_url,
        max_body_bytes=100_000,
        max_message_bytes=50_000,
        max_response_bytes=3 * 1024**3,
        max_responses_bytes=4 * 1024**3,
        max_page_size=200,
    ) as server:
        assert (await server.client.execute("GetServerLimits"))["limits"] == {
            "maxBodyBytes": 100_000,
            "maxMessageBytes": 50_000,
            # The maximum of the type Int.
            "maxResponseBytes": 2_147_483_647,
            "maxPageSize": 200,
            "maxTaskKeys": 1000,
            "maxBatch": 1000,
        }
