"""GraphiQL in a real browser, without requests to any other host."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import pytest
from graphql import OperationDefinitionNode, parse
from playwright.async_api import Page, async_playwright, expect

from queries import FOLDERS, MAIN_JOB, document, in_folder
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

AUTHENTICATION_NEEDED = "A valid API token is required. Enter it in the field “API token” at the top of this page."

FIND_MODEL = "__MONACO.editor.getModels().find(model => model.uri.path.endsWith(name))"

HAS_CHECKED_VARIABLES = """names => {
    const [schema] = __MONACO.languages.json.jsonDefaults.diagnosticsOptions.schemas ?? [];
    return schema !== undefined && Object.keys(schema.schema.properties).sort().join() === names;
}"""
"""The editor has checked the document on the screen, and knows the types of its variables."""

PASTE = """text => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', text);
    document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
}"""
"""Pastes text at the cursor. Typed text would get closing brackets from the editor."""

FIND_PROBLEMS = f"""async () => {{
    const name = 'variables.json';
    const variables = {FIND_MODEL}.uri;
    const worker = await (await __MONACO.languages.json.getWorker())(variables);
    const inDocument = __MONACO.editor.getModelMarkers({{ owner: 'graphql' }});
    const inVariables = await worker.doValidation(variables.toString());
    return [...inDocument, ...inVariables].map(problem => problem.message);
}}"""

FIND_UNREACHABLE = """() => {
    const shown = element => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const scrolls = element => element && element !== document.body &&
        (element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight) &&
        /auto|scroll/.test(getComputedStyle(element).overflow) || element && scrolls(element.parentElement);
    const isOutside = element => {
        const { left, top, right, bottom } = element.getBoundingClientRect();
        return left < -1 || top < -1 || right > innerWidth + 1 || bottom > innerHeight + 1;
    };
    const isFlat = element => element.getBoundingClientRect().height < 60;
    const editors = [...document.querySelectorAll('.graphiql-editor, .result-window')].filter(shown);
    const controls = [...document.querySelectorAll('button, input, [role=tab], [role=menuitem]')].filter(shown);
    return [
        ...(document.documentElement.scrollWidth > innerWidth ? ['the page'] : []),
        ...editors.filter(element => isOutside(element) || isFlat(element)).map(element => element.className),
        ...controls.filter(element => isOutside(element) && !scrolls(element.parentElement))
            .map(element => element.ariaLabel ?? element.textContent),
    ];
}"""
"""Names of editors and controls that are outside of the window or of no use, and of a page wider than the window."""


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
        await self.wait_until_loaded()

    async def wait_until_loaded(self) -> None:
        await expect(self.page.locator(".graphiql-query-editor .view-line").first).to_be_visible()

    async def tabs(self) -> list[str]:
        return await self.page.get_by_role("tab").all_inner_texts()

    async def active_tab(self) -> str:
        return await self.page.get_by_role("tab", selected=True).inner_text()

    async def select_tab(self, tab: str) -> None:
        await self.page.get_by_role("tab", name=tab).click()

    async def open_document(self, operation: str) -> None:
        """Open a document from the menu, in a new tab."""
        await self.page.get_by_role("button", name="Documents").click()
        await self.page.get_by_role("menuitem").filter(has=self.page.get_by_text(operation, exact=True)).click()

    async def text(self, editor: str) -> str:
        """Return the text of an editor: `operation.graphql`, `variables.json` or `response.json`."""
        return await self.page.evaluate(f"name => {FIND_MODEL}.getValue()", editor)

    async def enter_variables(self, text: str) -> None:
        """Replace the variables of the tab."""
        await self._paste_into_tool("Variables", text)

    async def paste_ids(self, **ids: str) -> None:
        """Replace the notes in the variables of the tab by these ids: `paste the leaseId here` by that of `leaseId`."""
        text = await self.text("variables.json")
        for name, id in ids.items():
            note = f"paste the {name.replace('_', '.')} here"
            assert note in text
            text = text.replace(note, id)
        await self.enter_variables(text)

    async def enter_headers(self, text: str) -> None:
        await self._paste_into_tool("Headers", text)

    async def _paste_into_tool(self, tool: str, text: str) -> None:
        await self.page.get_by_role("button", name=tool, exact=True).click()
        await self.page.locator(".graphiql-editor-tool .monaco-editor:visible").click()
        await self.page.keyboard.press("ControlOrMeta+A")
        await self.page.evaluate(PASTE, text)

    async def enter_token(self, token: str) -> None:
        await self.page.get_by_label("API token").fill(token)
        await self.page.keyboard.press("Enter")

    async def execute(self) -> None:
        await self.page.get_by_role("button", name="Execute query").click()

    async def expect_result(self, text: str) -> None:
        await self.page.wait_for_function(
            f"([name, text]) => {FIND_MODEL}.getValue().includes(text)", arg=["response.json", text]
        )

    async def result(self) -> Any:
        """Return the value of the only root field of the response."""
        (value,) = orjson.loads(await self.text("response.json"))["data"].values()
        return value

    async def problems(self, variables: list[str]) -> list[str]:
        """Return what the editors mark as wrong in the tab, whose document has these variables."""
        await self.page.wait_for_function(HAS_CHECKED_VARIABLES, arg=",".join(sorted(variables)))
        return await self.page.evaluate(FIND_PROBLEMS)


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


async def test_the_tabs_in_order_complete_a_task_run(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")
    tabs = await browser.tabs()

    await browser.select_tab("CreateTaskRun")
    await browser.execute()
    await browser.expect_result('"created": true')
    run = (await browser.result())["taskRun"]
    await browser.select_tab("ClaimTaskRuns")
    await browser.execute()
    await browser.expect_result(run["id"])
    (delivery,) = (await browser.result())["deliveries"]
    await browser.select_tab("AcknowledgeTaskRuns")
    await browser.paste_ids(leaseId=delivery["leaseId"])
    await browser.execute()
    await browser.expect_result("HELD")
    await browser.select_tab("SetTaskRunRunning")
    await browser.paste_ids(taskRun_id=run["id"], leaseId=delivery["leaseId"])
    await browser.execute()
    await browser.expect_result('"stateType": "RUNNING"')
    await browser.select_tab("SetTaskRunCompleted")
    await browser.paste_ids(taskRun_id=run["id"], leaseId=delivery["leaseId"])
    await browser.execute()
    await browser.expect_result('"stateType": "COMPLETED"')
    await browser.select_tab("ListTaskRuns")
    await browser.execute()
    await browser.expect_result(run["id"])
    (listed,) = (await browser.result())["nodes"]

    completed = await client.execute("GetTaskRun", id=run["id"])
    assert tabs == list(MAIN_JOB)
    assert listed["stateType"] == "COMPLETED"
    assert (completed["stateType"], completed["state"]["data"]) == ("COMPLETED", {"sent": True})


async def test_the_page_contacts_no_other_host_and_logs_no_error(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")

    await browser.execute()
    await browser.expect_result('"created": true')
    await browser.open_document("ScheduledTaskRuns")
    await browser.execute()
    await browser.expect_result("leaseId")

    assert browser.hosts == {urlsplit(client.url).netloc}
    assert browser.console_errors == []


async def test_no_tab_is_marked_as_wrong(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")
    problems: dict[str, list[str]] = {}

    for operation in MAIN_JOB:
        await browser.select_tab(operation)
        problems[operation] = await browser.problems(_variables_of(operation))

    assert problems == {operation: [] for operation in MAIN_JOB}
    assert await browser.page.locator(".squiggly-error, .squiggly-warning").count() == 0


async def test_a_wrong_variable_is_marked(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")

    await browser.enter_variables('{"input": {"taskKey": 1, "parameters": null, "cacheExpiresAt": 2}}')

    assert await browser.problems(["input"]) == [
        'Incorrect type. Expected "string".',
        "Incorrect type. Expected one of string, null.",
    ]


async def test_a_field_with_a_default_is_not_marked_as_missing(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")

    await browser.enter_variables('{"input": {"taskKey": "t"}}')
    without_defaults = await browser.problems(["input"])
    await browser.enter_variables('{"input": {}}')

    assert without_defaults == []
    assert await browser.problems(["input"]) == ['Missing property "taskKey".']


async def test_the_menu_lists_all_documents_by_folder(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")

    await browser.page.get_by_role("button", name="Documents").click()
    groups = await browser.page.get_by_role("menu").get_by_role("group").all()
    shown = {
        await group.get_attribute("aria-label"): [
            text.split("\n")[0] for text in await group.get_by_role("menuitem").all_inner_texts()
        ]
        for group in groups
    }

    assert list(shown) == ["Task runs", "Workers", "Flow runs", "Concurrency", "Server"]
    assert list(shown.values()) == [in_folder(folder) for folder in FOLDERS]


async def test_a_document_of_the_menu_opens_in_a_new_tab_with_its_variables(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")

    await browser.open_document("GetTaskRunHistory")

    assert await browser.tabs() == [*MAIN_JOB, "GetTaskRunHistory"]
    assert await browser.active_tab() == "GetTaskRunHistory"
    assert (await browser.text("operation.graphql"), await browser.text("variables.json")) == document(
        "GetTaskRunHistory"
    )
    await browser.select_tab("CreateTaskRun")
    assert await browser.text("operation.graphql") == document("CreateTaskRun")[0]


async def test_the_token_field_authenticates_tabs_documentation_and_subscriptions(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
        token = await create_token(server.services.database, "write", "work")
        await browser.open(server.client.url + "/")
        await browser.expect_result(AUTHENTICATION_NEEDED)

        await browser.enter_token(token.text)
        await browser.page.get_by_role("button", name="Show Documentation Explorer").click()
        await expect(browser.page.get_by_text("Root Types")).to_be_visible()
        await browser.page.get_by_role("button", name="Hide Documentation Explorer").click()
        await browser.execute()
        await browser.expect_result('"created": true')
        await browser.open_document("ScheduledTaskRuns")
        await browser.execute()
        await browser.expect_result("leaseId")


async def test_the_token_is_kept_in_the_session_storage_only(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
        token = await create_token(server.services.database, "write", "work")
        await browser.open(server.client.url + "/")

        await browser.enter_token(f" Bearer {token.text}\n")
        await browser.execute()
        await browser.expect_result('"created": true')
        await browser.page.reload()
        await browser.wait_until_loaded()

        assert await browser.page.evaluate("Object.values(sessionStorage)") == [token.text]
        assert token.text not in await browser.page.evaluate("JSON.stringify(localStorage)")
        assert await browser.page.get_by_label("API token").input_value() == token.text
        await browser.execute()
        await browser.expect_result('"created": true')


async def test_a_token_in_the_headers_has_precedence(browser: Browser, tmp_path: Path, database_url: str) -> None:
    async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
        token = await create_token(server.services.database, "write", "work")
        headers = orjson.dumps({"authorization": f"Bearer {token.text}"}).decode()
        await browser.open(server.client.url + "/")

        await browser.enter_token("runyard_wrong")
        await browser.enter_headers(headers)
        await browser.execute()
        await browser.expect_result('"created": true')
        await browser.open_document("ScheduledTaskRuns")
        await browser.enter_headers(headers)
        await browser.execute()
        await browser.expect_result("leaseId")


@pytest.mark.parametrize(
    ("operation", "extensions"),
    [
        ("CreateTaskRun", {"code": "UNAUTHENTICATED", "status": 401}),
        ("ScheduledTaskRuns", {"code": "UNAUTHENTICATED", "closeCode": 4403, "reason": "Forbidden"}),
    ],
)
async def test_a_rejected_token_is_reported_in_plain_text_at_its_field(
    browser: Browser, tmp_path: Path, database_url: str, operation: str, extensions: dict[str, Any]
) -> None:
    async with run_server(tmp_path, database_url=database_url, access="tokens") as server:
        await create_token(server.services.database, "write")
        await browser.open(server.client.url + "/")

        await browser.enter_token("runyard_wrong")
        await browser.open_document(operation)
        await browser.execute()
        await browser.expect_result(AUTHENTICATION_NEEDED)

        error = {"message": AUTHENTICATION_NEEDED, "extensions": extensions}
        assert orjson.loads(await browser.text("response.json")) == {"errors": [error]}
        assert await browser.page.get_by_label("API token").get_attribute("aria-invalid") == "true"


async def test_a_server_that_is_gone_is_reported_without_a_stack_trace(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    async with run_server(tmp_path, database_url=database_url) as server:
        await browser.open(server.client.url + "/")

    await browser.execute()
    await browser.expect_result("The request failed")
    (failed_request,) = orjson.loads(await browser.text("response.json"))["errors"]
    await browser.open_document("ScheduledTaskRuns")
    await browser.execute()
    await browser.expect_result("The subscription ended")
    (failed_subscription,) = orjson.loads(await browser.text("response.json"))["errors"]

    assert (set(failed_request), set(failed_subscription)) == ({"message"}, {"message"})


async def test_a_document_in_the_address_opens_in_a_tab(client: Client, browser: Browser) -> None:
    query = "query First { server { version } }\n\nquery Second($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    parameters = urlencode({"query": query, "variables": '{"ids":[]}', "operationName": "Second"})

    await browser.open(f"{client.url}/graphql?{parameters}")
    await expect(browser.page.get_by_role("tab", name="Second", selected=True)).to_be_visible()

    assert sorted(await browser.tabs()) == sorted([*MAIN_JOB, "Second"])
    assert await browser.text("operation.graphql") == query
    assert await browser.text("variables.json") == '{\n  "ids": []\n}'
    assert await browser.text("response.json") == ""
    await browser.execute()
    await browser.page.get_by_role("menuitem", name="Second").click()
    await browser.expect_result('"nodes": []')


async def test_a_document_in_the_address_is_added_to_the_stored_tabs_once(client: Client, browser: Browser) -> None:
    await browser.open(client.url + "/")
    await browser.open_document("GetServer")
    await browser.page.wait_for_function("() => localStorage['graphiql:tabState']?.includes('GetServer')")

    await browser.open(f"{client.url}/?{urlencode({'query': 'query Linked { server { version } }'})}")
    await browser.page.wait_for_function("() => localStorage['graphiql:tabState']?.includes('Linked')")
    await browser.page.reload()
    await browser.wait_until_loaded()

    assert await browser.tabs() == [*MAIN_JOB, "GetServer", "Linked"]
    assert await browser.active_tab() == "Linked"
    assert urlsplit(browser.page.url).query == ""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (768, 1024), (1360, 850)])
async def test_everything_can_be_reached_in_a_window_of_this_size(
    client: Client, browser: Browser, width: int, height: int
) -> None:
    await browser.page.set_viewport_size({"width": width, "height": height})
    await browser.open(client.url + "/")
    unreachable: dict[str, list[str]] = {}

    await browser.execute()
    await browser.expect_result('"created": true')
    unreachable["editors"] = await browser.page.evaluate(FIND_UNREACHABLE)
    await browser.page.get_by_role("button", name="Documents").click()
    await expect(browser.page.get_by_role("menu")).to_be_visible()
    unreachable["menu"] = await browser.page.evaluate(FIND_UNREACHABLE)
    await browser.page.keyboard.press("Escape")
    for panel in ("Documentation Explorer", "History", "GraphiQL Explorer"):
        await browser.page.get_by_role("button", name=f"Show {panel}").click()
        await expect(browser.page.get_by_role("button", name=f"Hide {panel}")).to_be_visible()
        unreachable[panel] = await browser.page.evaluate(FIND_UNREACHABLE)
    await browser.page.get_by_role("button", name="Open settings dialog").click()
    await expect(browser.page.get_by_role("dialog")).to_be_visible()
    unreachable["settings"] = await browser.page.evaluate(FIND_UNREACHABLE)

    assert unreachable == {situation: [] for situation in unreachable}


async def test_a_touch_scrolls_the_tabs_of_a_phone_and_moves_none(client: Client, browser: Browser) -> None:
    assert browser.page.context.browser is not None
    phone = await browser.page.context.browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    touched = Browser(await phone.new_page())
    await touched.open(client.url + "/")
    session: Any = await phone.new_cdp_session(touched.page)
    box = await touched.page.get_by_role("tab", name="ClaimTaskRuns").bounding_box()
    assert box is not None

    for type_, distance in (("touchStart", 0), *(("touchMove", 10 * step) for step in range(1, 15))):
        point = {"x": box["x"] + 100 - distance, "y": box["y"] + 12}
        await session.send("Input.dispatchTouchEvent", {"type": type_, "touchPoints": [point]})
    await session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    await touched.page.wait_for_function("() => document.querySelector('.graphiql-tabs').scrollLeft > 50")

    assert await touched.tabs() == list(MAIN_JOB)


def _variables_of(operation: str) -> list[str]:
    """Return the names of the variables that a document declares."""
    (definition,) = parse(document(operation)[0]).definitions
    assert isinstance(definition, OperationDefinitionNode)
    return [each.variable.name.value for each in definition.variable_definitions or ()]
