"""The server below a path prefix of a proxy: its page and files, requests, event streams and WebSockets."""

import re
import shutil
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import pytest
from gql import Client as GQLClient
from gql import gql
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from playwright.async_api import Page, async_playwright, expect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.client import TIMEOUT_SECONDS, Client
from tests.prefix_proxy import prefix_proxy
from tests.serving import SQLITE_ONLY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
PAGES = ["/", "/graphql", "/graphql/"]
HTML = {"Accept": "text/html"}
PROTOCOLS: Any = ["graphql-transport-ws"]
CREATE = 'mutation Create { createTaskRun(input: {taskKey: "t", state: {type: SCHEDULED}}) { taskRun { id taskKey } } }'
RECEIVE = 'subscription Receive { scheduledTaskRuns(taskKeys: ["t"]) { taskRun { id taskKey } } }'

pytestmark = SQLITE_ONLY


@pytest.fixture
async def url(client: Client) -> AsyncIterator[str]:
    """The URL of the server below the prefix of a proxy, without a trailing slash."""
    async with prefix_proxy(client.url) as url:
        yield url


def web_socket_url(url: str) -> str:
    return url.replace("http", "ws", 1)


@pytest.mark.parametrize("page", PAGES)
async def test_every_address_in_the_page_is_served_below_the_prefix(client: Client, url: str, page: str) -> None:
    text = (await client.http.get(url + page, headers=HTML)).text
    files = [*re.findall(r'(?:href|src)="([^"]+)"', text), *re.findall(r'"[^"]*/worker-[^"]+"', text)]
    endpoints = [re.findall(rf'"{key}": "([^"]+)"', text) for key in ("endpoint", "subscriptionEndpoint")]

    addresses = [urljoin(url + page, file.strip('"')) for file in files]
    statuses = {(await client.http.get(address)).status_code for address in addresses}
    assert len(addresses) > 10
    assert (statuses, [address for address in addresses if not address.startswith(url)]) == ({200}, [])
    assert [urljoin(url + page, endpoint) for (endpoint,) in endpoints] == [f"{url}/graphql"] * 2


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphql/", "/healthz", "/healthz/", "/readyz/", "/metrics/"])
@pytest.mark.parametrize("headers", [{}, HTML])
async def test_no_address_below_the_prefix_redirects(
    client: Client, url: str, path: str, headers: dict[str, str]
) -> None:
    response = await client.http.get(url + path, params={"query": "{ __typename }"}, headers=headers)

    assert (response.status_code, response.headers.get("location")) == (200, None)


@pytest.mark.parametrize("path", PAGES)
async def test_a_client_library_sends_requests_and_subscribes_below_the_prefix(url: str, path: str) -> None:
    async with (
        GQLClient(transport=HTTPXAsyncTransport(url=url + path)) as sender,
        GQLClient(transport=WebsocketsTransport(url=web_socket_url(url + path))) as worker,
    ):
        created = await sender.execute(gql(CREATE))
        events = worker.subscribe(gql(RECEIVE))
        (delivery,) = (await anext(events))["scheduledTaskRuns"]
        await events.aclose()

    assert delivery["taskRun"] == created["createTaskRun"]["taskRun"]


async def test_a_proxy_that_drops_upgrade_gets_the_reason_in_the_response(client: Client) -> None:
    async with prefix_proxy(client.url, forwards_upgrade=False) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{web_socket_url(url)}/graphql", subprotocols=PROTOCOLS, proxy=None)

    response = refused.value.response
    assert response.status_code == 426
    assert b"Proxies between client and server must forward both." in (response.body or b"")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = await chromium.new_page()
        page.set_default_timeout(3 * TIMEOUT_SECONDS * 1000)
        yield page
        await chromium.close()


@NEEDS_CHROMIUM
@pytest.mark.parametrize("path", PAGES)
async def test_graphiql_executes_queries_and_subscriptions_below_the_prefix(
    client: Client, page: Page, url: str, path: str
) -> None:
    outside: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(url) else outside.append(request.url))
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    result = page.get_by_role("region", name="Result Window")

    async def execute(document: str) -> None:
        await page.locator(".graphiql-query-editor .monaco-editor").click()
        await page.keyboard.press("Control+A")
        await page.keyboard.insert_text(document)
        await page.get_by_role("button", name="Execute query").click()

    await page.goto(url + path)
    await expect(page.locator(".graphiql-query-editor .view-line").first).to_be_visible()
    await execute(CREATE)
    await expect(result).to_contain_text('"taskKey": "t"')
    run = (await client.execute("ListTaskRuns"))["nodes"][0]
    await execute(RECEIVE)
    await expect(result).to_contain_text(run["id"])

    assert (outside, failed) == ([], [])


@NEEDS_CHROMIUM
async def test_a_page_follows_state_changes_with_event_source_below_the_prefix(
    client: Client, page: Page, url: str
) -> None:
    await page.goto(f"{url}/healthz")
    opened = await page.evaluate(
        """(query) => new Promise((resolve) => {
            window.changes = [];
            const source = new EventSource(`graphql?query=${encodeURIComponent(query)}`);
            source.addEventListener('next', ({ data }) => window.changes.push(JSON.parse(data)));
            source.onopen = () => resolve(true);
            source.onerror = () => resolve(false);
        })""",
        "subscription { taskRunStateChanges { taskRun { taskKey } } }",
    )

    await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
    await page.wait_for_function("window.changes.length > 0")

    assert opened
    assert await page.evaluate("window.changes") == [{"data": {"taskRunStateChanges": {"taskRun": {"taskKey": "t"}}}}]
