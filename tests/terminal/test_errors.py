"""Errors of the commands that use the API: one line, and the exit code 1."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.bearer_tokens import bearer_headers
from tests.builders.api_runs import count_task_runs
from tests.client import Client
from tests.command import runyard_at
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = pytest.mark.processes

NO_SERVER = "http://127.0.0.1:1"
"""Address without a server: no program listens on port 1."""


@asynccontextmanager
async def http_responses(head: str, body: str = "") -> AsyncIterator[str]:
    """Serve one response to every request during the block. Yields the URL."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list"],
        ["runs", "show", "01a206b2-303f-7000-b0b3-40b8ceb3f489"],
        ["runs", "create", "mail"],
        ["runs", "create", "mail", "--wait"],
        ["runs", "watch"],
        ["runs", "cancel", "--key", "mail"],
        ["runs", "retry", "--key", "mail"],
        ["queues"],
    ],
    ids=" ".join,
)
async def test_a_server_that_cannot_be_reached_is_named(command: list[str]) -> None:
    completed = await runyard_at(NO_SERVER, *command)

    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == (
        "runyard: Cannot reach the server at http://127.0.0.1:1/graphql: Connection refused. Start it with "
        "`runyard serve`, or set --url or RUNYARD_URL.\n"
    )


@SQLITE_ONLY
async def test_a_token_is_sent_and_its_scope_decides(tmp_path: Path) -> None:
    async with run_server(tmp_path, access="tokens") as server:
        reader = (await bearer_headers(server, "read"))["Authorization"].removeprefix("Bearer ")
        writer = (await bearer_headers(server, "write"))["Authorization"].removeprefix("Bearer ")
        url = server.client.url
        without = await runyard_at(url, "runs", "list")
        wrong = await runyard_at(url, "runs", "list", RUNYARD_TOKEN="wrong")  # noqa: S106
        refused = await runyard_at(url, "runs", "create", "mail", "--token", reader)
        created = await runyard_at(url, "runs", "create", "mail", RUNYARD_TOKEN=writer)
        listed = await runyard_at(url, "runs", "list", "--json", "--token", reader)

    assert [each.returncode for each in (without, wrong, refused, created, listed)] == [1, 1, 1, 0, 0]
    assert [each.stderr for each in (without, refused)] == [
        "runyard: The server requires an API token. Set it with --token or RUNYARD_TOKEN.\n",
        "runyard: createTaskRun requires a token with the scope write; this token has read. Set another token with "
        "--token or RUNYARD_TOKEN.\n",
    ]
    assert wrong.stderr.endswith(" Set another token with --token or RUNYARD_TOKEN.\n")
    assert [run["id"] for run in json.loads(listed.stdout)] == [created.stdout.strip()]


@SQLITE_ONLY
async def test_an_error_of_the_api_names_its_argument(client: Client) -> None:
    completed = await runyard_at(client.url, "runs", "create", "k" * 1001)

    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == "runyard: input.taskKey: must have at most 1,000 bytes; got 1,001.\n"
    assert await count_task_runs(client) == 0


@SQLITE_ONLY
async def test_the_url_may_have_a_path_prefix_or_end_with_graphql(server: RunningServer) -> None:
    url = server.client.url

    completed = [
        await runyard_at(each, "queues", "--json") for each in (f"{url}/", f"{url}/graphql", f"{url}/graphql/")
    ]
    prefixed = await runyard_at(f"{url}/prefix", "queues")

    assert [each.stdout for each in completed] == ["[]\n"] * 3
    assert prefixed.stderr == f"runyard: {url}/prefix/graphql responds with the HTTP status 404: Not Found\n"


async def test_a_url_that_is_not_http_is_refused() -> None:
    completed = await runyard_at("127.0.0.1:4200", "queues")

    assert completed.returncode == 1
    assert completed.stderr == (
        "runyard: The URL of the server must start with http:// or https://; got '127.0.0.1:4200'.\n"
    )


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        ("200 OK", "<html>", "{url}/graphql is not the API of a Runyard server. Check --url or RUNYARD_URL."),
        ("502 Bad Gateway\r\nContent-Type: text/html", "<h1>", "{url}/graphql responds with the HTTP status 502."),
        (
            "302 Found\r\nLocation: https://other.example/graphql",
            "",
            "{url}/graphql redirects to https://other.example/graphql. Set --url or RUNYARD_URL to the URL of the server.",
        ),
    ],
    ids=["a page", "a proxy without a server", "a redirect"],
)
async def test_a_response_of_another_program_is_reported(head: str, body: str, message: str) -> None:
    async with http_responses(head, body) as url:
        completed = await runyard_at(url, "queues", RUNYARD_TOKEN="secret")  # noqa: S106

    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f"runyard: {message.format(url=url)}\n"
