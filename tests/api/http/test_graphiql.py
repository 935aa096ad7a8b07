"""GraphiQL, as a person meets it: the page in a real browser, with nothing but this server to talk to."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from playwright.async_api import Page, async_playwright, expect

from queries import MAIN_JOB
from tests.builders.tokens import new_token
from tests.client import PATIENCE, Client
from tests.serving import serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Browser:
    """A page in Chromium, and what it asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await expect(self.page.locator(".graphiql-query-editor .view-line").first).to_be_visible()

    async def tabs(self) -> list[str]:
        return await self.page.get_by_role("tab").all_inner_texts()

    async def choose(self, tab: str) -> None:
        await self.page.get_by_role("tab", name=tab).click()

    async def write_headers(self, text: str) -> None:
        """Write into the editor of the tab's headers."""
        await self.page.get_by_role("button", name="Headers").click()
        await self.page.locator(".graphiql-editor-tool .monaco-editor:visible").click()
        await self.page.keyboard.insert_text(text)

    async def execute(self) -> None:
        await self.page.get_by_role("button", name="Execute query").click()

    async def sees(self, text: str) -> None:
        await expect(self.page.get_by_role("region", name="Result Window")).to_contain_text(text)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await chromium.new_page()
        page.set_default_timeout(3 * PATIENCE * 1000)
        await page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        yield Browser(page)
        await chromium.close()


async def test_the_main_job_is_in_the_tabs_and_runs_with_no_other_host(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")
    tabs = await browser.tabs()

    await browser.choose("CreateTaskRun")
    await browser.execute()
    await browser.sees('"created": true')
    (run,) = (await client.ask("ListTaskRuns"))["nodes"]
    await browser.choose("ScheduledTaskRuns")
    await browser.execute()
    await browser.sees(run["id"])

    assert [tab for tab in tabs if tab in MAIN_JOB] == list(MAIN_JOB)
    assert (run["taskKey"], run["stateType"]) == ("send-mail", "SCHEDULED")
    assert browser.hosts == {urlsplit(client.url).netloc}
    assert browser.complaints == []


async def test_a_token_in_the_headers_lets_in_over_both_transports(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    async with serving(tmp_path, database_url=database_url, access="tokens") as server:
        token = await new_token(server.life.database, "write", "work")
        headers = orjson.dumps({"Authorization": f"Bearer {token.text}"}).decode()
        await browser.open(server.client.url + "/")

        await browser.choose("CreateTaskRun")
        await browser.execute()
        await browser.sees("UNAUTHENTICATED")
        await browser.write_headers(headers)
        await browser.execute()
        await browser.sees('"created": true')
        await browser.choose("ScheduledTaskRuns")
        await browser.write_headers(headers)
        await browser.execute()
        await browser.sees("leaseId")
