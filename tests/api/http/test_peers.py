"""Third-party clients against a real server: audits, caches, persisted queries, code generation, reconnecting."""

import asyncio
import fcntl
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

import queries
from queries import document
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, ServerProcess, run_server
from tests.state_change_followers import follow_state_changes, receive_events

ROOT = Path(__file__).parents[3]
PEERS = ROOT / "tests" / "peers"


def is_node_new_enough() -> bool:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.lstrip("v").partition(".")[0]) >= 20


pytestmark = [
    SQLITE_ONLY,
    pytest.mark.skipif(not is_node_new_enough(), reason="npm with Node 20 or later is not installed"),
]


@pytest.fixture(scope="module")
def peers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the client scripts, and install their packages unless pytest's cache contains them."""
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("peers")
    lock_file, installed = (PEERS / "package-lock.json").read_bytes(), cache / "installed.json"
    with (cache / "mutex").open("w") as mutex:
        # The processes of pytest-xdist share the cache.
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_bytes() != lock_file:
            installed.unlink(missing_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PEERS / name, cache)
            subprocess.run(
                ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefer-offline"], cwd=cache, check=True
            )
            installed.write_bytes(lock_file)
    folder = tmp_path_factory.mktemp("peers")
    for script in PEERS.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(cache / "node_modules")
    return folder


async def run_script(peers: Path, script: str, *arguments: str) -> list[Any]:
    """Run the script and parse each line of its output. Fail when the script fails."""
    process = await asyncio.create_subprocess_exec(
        "node", script, *arguments, cwd=peers, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 3 * TIMEOUT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return [orjson.loads(line) for line in output.splitlines()]


async def test_every_graphql_over_http_audit_passes_without_a_warning(client: Client, peers: Path) -> None:
    audits = await run_script(peers, "audits.mjs", f"{client.url}/graphql")

    assert [audit for audit in audits if audit["status"] != "ok"] == []
    assert len(audits) == 61


async def test_graphql_ws_subscribes_completes_pings_and_reconnects(client: Client, peers: Path) -> None:
    url = client.url.replace("http", "ws", 1) + "/graphql"

    lines = await run_script(
        peers, "websocket.mjs", url, document("CreateTaskRun")[0], document("ScheduledTaskRuns")[0]
    )

    assert lines == [
        ["delivered", True],
        ["pong", True],
        ["error", "BAD_USER_INPUT"],
        ["delivered after reconnecting", True],
        ["sockets", 2],
        ["after complete", "Query"],
    ]


async def test_graphql_sse_gets_results_and_single_connection_mode_is_refused(client: Client, peers: Path) -> None:
    lines = await run_script(
        peers,
        "events.mjs",
        f"{client.url}/graphql",
        document("CreateTaskRun")[0],
        document("ScheduledTaskRuns")[0],
    )

    assert lines == [
        ["query", [{"data": {"__typename": "Query"}}]],
        ["invalid", "BAD_USER_INPUT"],
        ["delivered", True],
        ["single", 405],
    ]


@pytest.mark.parametrize("cache", ["apollo", "urql", "relay"])
async def test_a_cache_shows_the_last_of_several_states_set_together(client: Client, peers: Path, cache: str) -> None:
    await client.execute("CreateTaskRun", input={"taskKey": "peer", "state": {"type": "SCHEDULED"}})

    lines = await run_script(peers, f"{cache}.mjs", f"{client.url}/graphql")

    assert lines == [
        ["listed", "Scheduled"],
        ["result", [True, None, "Running", "Completed"]],
        ["result", [True, None, "Completed", "Completed"]],
        ["cached", [True, "COMPLETED", "Completed"]],
        ["requests", 2],
        ["warnings", []],
    ]


FIRST, SECOND = ("query First {\n  taskRunCount\n}", "query Second {\n  taskRunCount\n}")
COUNTED = [["taskRunCount"], ["taskRunCount"]]


async def test_clients_of_persisted_queries_fall_back_to_sending_documents(client: Client, peers: Path) -> None:
    lines = await run_script(peers, "persisted.mjs", f"{client.url}/graphql", FIRST, SECOND)

    assert lines == [
        ["apollo by POST", {"results": COUNTED, "requests": ["POST hash", "POST document", "POST document"]}],
        ["apollo by GET", {"results": COUNTED, "requests": ["GET hash", "POST document", "POST document"]}],
        ["urql by POST", {"results": COUNTED, "requests": ["POST hash", "POST document", "POST document"]}],
        ["urql by GET", {"results": COUNTED, "requests": ["GET hash", "GET document", "POST document"]}],
    ]


async def test_clients_of_persisted_queries_send_only_hashes_of_trusted_documents(tmp_path: Path, peers: Path) -> None:
    manifest = tmp_path / "persisted-documents.json"
    manifest.write_bytes(orjson.dumps({"first": FIRST, "second": SECOND}))

    async with run_server(tmp_path, trusted_documents=manifest) as server:
        lines = await run_script(peers, "persisted.mjs", f"{server.client.url}/graphql", FIRST, SECOND)

    assert lines == [
        ["apollo by POST", {"results": COUNTED, "requests": ["POST hash", "POST hash"]}],
        ["apollo by GET", {"results": COUNTED, "requests": ["GET hash", "GET hash"]}],
        ["urql by POST", {"results": COUNTED, "requests": ["POST hash", "POST hash"]}],
        ["urql by GET", {"results": COUNTED, "requests": ["GET hash", "GET hash"]}],
    ]


async def test_event_source_reads_state_changes_and_no_deliveries(server: RunningServer, peers: Path) -> None:
    async with follow_state_changes(server) as socket:
        created = await server.client.execute("CreateTaskRun", input={"taskKey": "peer"})
        (change,) = await receive_events(socket, 1)
    await server.client.execute("SetTaskRunState", id=created["taskRun"]["id"], state={"type": "RUNNING"})

    lines = await run_script(
        peers,
        "event_source.mjs",
        f"{server.client.url}/graphql",
        document("TaskRunStateChanges")[0],
        change["cursor"],
        document("SetTaskRunState")[0],
        document("ScheduledTaskRuns")[0],
    )

    assert lines == [["change", "Running"], ["change", "Completed"], ["refused", [405, True]]]


async def test_graphql_codegen_generates_types_and_a_manifest_of_trusted_documents(peers: Path, tmp_path: Path) -> None:
    output = tmp_path / "generated"
    folder = Path(queries.__file__).parent

    lines = await run_script(peers, "codegen.mjs", f"{ROOT}/schema/schema.graphql", f"{folder}", f"{output}")
    manifest = output / "persisted-documents.json"
    (id,) = (id for id, text in orjson.loads(manifest.read_bytes()).items() if text.startswith("query CountTaskRuns("))
    async with run_server(tmp_path, trusted_documents=manifest) as server:
        response = await server.client.http.post("/graphql", json={"documentId": id})

    assert [sorted(names) for kind, names in lines if kind == "operations"] == [sorted(queries.paths())]
    assert response.json() == {"data": {"taskRunCount": 0}}


async def test_graphiql_and_subscriptions_work_below_a_path_prefix(client: Client, peers: Path) -> None:
    lines = await run_script(
        peers, "path_prefix.mjs", client.url, document("CreateTaskRun")[0], document("ScheduledTaskRuns")[0]
    )

    assert lines == [
        ["page", ["", True]],
        ["page", ["graphql", True]],
        ["page", ["graphql/", True]],
        ["missing", []],
        ["endpoint of the page", {"__typename": "Query"}],
        ["delivered", True],
    ]


HISTORY_PAGE = (ROOT / "docs" / "history.md").read_text("utf-8")
(FOLLOW,) = re.findall(r"^<!-- follow.mjs -->\n```js\n(.*?)^```", HISTORY_PAGE, re.DOTALL | re.MULTILINE)


class ScriptProcess:
    """A running script. Its lines are read as they are printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read_line(self) -> str:
        """Return the next line. Fails when the script has ended."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 3 * TIMEOUT_SECONDS)
        assert line, "the script has ended"
        return line.decode().rstrip()

    async def read_report(self) -> list[Any]:
        """Return the next line of a script that uses `report.mjs`."""
        return orjson.loads(await self.read_line())

    async def read_report_while(self, act: Callable[[], Awaitable[object]]) -> list[Any]:
        """Repeat the action until the script reports something, and return that."""
        reading = asyncio.create_task(self.read_report())
        while not reading.done():
            await act()
        return reading.result()


@asynccontextmanager
async def running_script(peers: Path, script: str, *arguments: str) -> AsyncIterator[ScriptProcess]:
    """Run the script until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        "node", script, *arguments, cwd=peers, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield ScriptProcess(process)
    finally:
        process.kill()
        await process.communicate()


async def create_named_run(client: Client, name: str) -> None:
    await client.execute("CreateTaskRun", input={"taskKey": "peer", "name": name})


@pytest.mark.parametrize("kind", ["graphql-ws", "apollo", "graphql-sse"])
async def test_a_client_reconnects_by_itself_after_a_server_restart(
    server_process: ServerProcess, peers: Path, kind: str
) -> None:
    client = await server_process.start()
    url = f"{server_process.url}/graphql"
    async with running_script(peers, "reconnect.mjs", kind, url, document("TaskRunStateChanges")[0]) as script:
        assert await script.read_report_while(lambda: create_named_run(client, "before")) == ["event", "before"]

        assert await server_process.terminate() == -signal.SIGTERM
        restarted = await server_process.start()
        reports = [await script.read_report_while(lambda: create_named_run(restarted, "after"))]
        while reports[-1] != ["event", "after"]:
            reports.append(await script.read_report_while(lambda: create_named_run(restarted, "after")))

    closed = [] if kind == "graphql-sse" else [["closed", 1012]]
    assert [each for each in reports if each != ["event", "before"]] == [*closed, ["event", "after"]]


async def test_a_client_reconnects_after_it_was_suspended_for_longer_than_the_ping_timeout(
    server_process: ServerProcess, peers: Path
) -> None:
    client = await server_process.start(RUNYARD_PING_SECONDS="0.5")
    url = f"{server_process.url}/graphql"
    async with running_script(peers, "reconnect.mjs", "graphql-ws", url, document("TaskRunStateChanges")[0]) as script:
        await script.read_report_while(lambda: create_named_run(client, "before"))
        script.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while "runyard_websockets 0.0" not in (await client.http.get("/metrics")).text.splitlines():
                continue

        script.process.send_signal(signal.SIGCONT)

        reports = [await script.read_report()]
        while reports[-1] != ["event", "after"]:
            reports.append(await script.read_report_while(lambda: create_named_run(client, "after")))
    assert [each for each in reports if each != ["event", "before"]] == [["closed", 1013], ["event", "after"]]


@pytest.mark.parametrize("has_change_before", [True, False])
async def test_the_documented_recipe_misses_no_change_during_a_restart(
    server_process: ServerProcess, peers: Path, has_change_before: bool
) -> None:
    client = await server_process.start()
    (peers / "follow.mjs").write_text(FOLLOW.replace("127.0.0.1:4200", server_process.address))
    async with running_script(peers, "follow.mjs") as script:
        lines = [await script.read_line()]
        if has_change_before:
            await create_named_run(client, "before")
            lines.append(await script.read_line())

        await server_process.terminate()
        restarted = await server_process.start()
        # The client waits before it reconnects. It receives the changes that were made before it is back, too.
        for number in range(3):
            await create_named_run(restarted, f"after-{number}")
        lines += [await script.read_line() for _ in range(3)]

    before = ["before Pending"] if has_change_before else []
    after = [f"after-{number} Pending" for number in range(3)]
    assert lines == ["Following state changes", *before, *after]
