"""GraphiQL in a real browser, without requests to any other host."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from playwright.async_api import Page, async_playwright, expect

from queries import MAIN_JOB
from tests.builders.tokens import create_token
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, run_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [SQLITE_ONLY, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


class Browser:
    """A page in Chromium, with the hosts that it contacts and its console errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.console_errors: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        page.on("console", lambda message: self._record_message(message.type, message.text))
        page.on("pageerror", lambda error: self.console_errors.append(str(error)))

    def _record_message(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.console_errors.append(text)

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await expect(self.page.locator(".graphiql-query-editor .view-line").first).to_be_visible()

    async def tabs(self) -> list[str]:
        return await self.page.get_by_role("tab").all_inner_texts()

    async def select_tab(self, tab: str) -> None:
        await self.page.get_by_role("tab", name=tab).click()

    async def enter_headers(self, text: str) -> None:
        """Type into the headers editor of the tab."""
        await self.page.get_by_role("button", name="Headers").click()
        await self.page.locator(".graphiql-editor-tool .monaco-editor:visible").click()
        await self.page.keyboard.insert_text(text)

    async def execute(self) -> None:
        await self.page.get_by_role("button", name="Execute query").click()

    async def expect_result(self, text: str) -> None:
        await expect(self.page.get_by_role("region", name="Result Window")).to_contain_text(text)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        page = await chromium.new_page()
        page.set_default_timeout(3 * TIMEOUT_SECONDS * 1000)
        await page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        yield Browser(page)
        await chromium.close()


async def test_the_main_operations_run_from_tabs_and_contact_no_other_host(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")
    tabs = await browser.tabs()

    await browser.select_tab("CreateTaskRun")
    await browser.execute()
    await browser.expect_result('"created": true')
    (run,) = (await client.execute("ListTaskRuns"))["nodes"]
    await browser.select_tab("ScheduledTaskRuns")
    await browser.execute()
    await browser.expect_result(run["id"])

    assert [tab for tab in tabs if tab in MAIN_JOB] == list(MAIN_JOB)
    assert (run["taskKey"], run["stateType"]) == ("send-mail", "SCHEDULED")
    assert browser.hosts == {urlsplit(client.url).netloc}
    assert browser.console_errors == []


async def test_a_token_in_the_headers_authenticates_over_both_transports(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
        token = await create_token(server.services.database, "write", "work")
        headers = orjson.dumps({"Authorization": f"Bearer {token.text}"}).decode()
        await browser.open(server.client.url + "/")

        await browser.select_tab("CreateTaskRun")
        await browser.execute()
        await browser.expect_result("UNAUTHENTICATED")
        await browser.enter_headers(headers)
        await browser.execute()
        await browser.expect_result('"created": true')
        await browser.select_tab("ScheduledTaskRuns")
        await browser.enter_headers(headers)
        await browser.execute()
        await browser.expect_result("leaseId")
