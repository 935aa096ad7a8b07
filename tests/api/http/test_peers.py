"""Third-party clients against a real server: GraphQL over HTTP audits, graphql-ws and graphql-sse."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from queries import document
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY

PEERS = Path(__file__).parents[2] / "peers"


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
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the client scripts and install their dependencies."""
    folder = tmp_path_factory.mktemp("peers") / "peers"
    shutil.copytree(PEERS, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefer-offline"], cwd=folder, check=True)
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
