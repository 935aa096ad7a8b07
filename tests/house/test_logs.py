"""The log: for people on a terminal, JSON elsewhere, and every line of a request with its id."""

import asyncio
import os
import pty
import sys
from typing import Any

import orjson
import pytest

from queries import document
from tests.client import PATIENCE, Client
from tests.serving import ON_SQLITE, ServerProcess

pytestmark = ON_SQLITE

NOBODY = "01900000-0000-7000-8000-000000000000"


def lines_of(log: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.splitlines()]


async def log_of(process: ServerProcess) -> list[dict[str, Any]]:
    """What the server has logged since it was ready; ends it."""
    await process.terminate()
    return lines_of(await process._errors)


async def make_it_fail(database_url: str) -> None:
    """Take a table away under the server, so that reading a run is a fault."""
    path = database_url.removeprefix("sqlite+aiosqlite:///")
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('DROP TABLE task_run')"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, path)
    assert await process.wait() == 0


async def test_elsewhere_than_on_a_terminal_every_line_is_json(server_process: ServerProcess) -> None:
    await server_process.start()

    lines = await log_of(server_process)

    assert lines != []
    assert all(list(line) == ["time", "level", "logger", "message"] for line in lines)
    assert lines[-1]["message"].startswith("Finished server process")


async def test_a_fault_is_logged_with_the_id_of_its_request(server_process: ServerProcess, database_url: str) -> None:
    client = await server_process.start()
    await make_it_fail(database_url)
    body = {"query": document("GetTaskRunState")[0], "variables": {"id": NOBODY}}

    answer = await client.http.post("/graphql", json=body, headers={"x-request-id": "from-the-proxy"})
    (fault,) = [line for line in await log_of(server_process) if line["level"] == "error"]

    id = answer.json()["errors"][0]["extensions"]["id"]
    assert answer.headers["x-request-id"] == "from-the-proxy"
    assert fault["request_id"] == "from-the-proxy"
    assert fault["message"] == f"Fault {id} at ['taskRun']"
    assert fault["exception"].endswith("sqlite3.OperationalError: no such table: task_run")


async def test_on_a_terminal_the_start_is_told_in_plain_lines(database_url: str) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runyard",
        "serve",
        env=environment | {"RUNYARD_DATABASE_URL": database_url, "RUNYARD_PORT": "0"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    async with asyncio.timeout(PATIENCE):
        while b"Uvicorn running" not in shown:
            shown += await asyncio.to_thread(os.read, ours, 4096)
    process.terminate()
    await asyncio.wait_for(process.wait(), PATIENCE)
    os.close(ours)

    first, second, *rest = shown.decode().splitlines()
    path = database_url.removeprefix("sqlite+aiosqlite:///")
    assert first == f"Runyard keeps its runs in {path}"
    assert second == "GraphiQL is at http://127.0.0.1:0/"
    assert "INFO     uvicorn.error: Uvicorn running" in "\n".join(rest)


@pytest.mark.parametrize("given", ["", "two words", "a" * 129, "naïve", '"quoted"'])
async def test_an_id_that_is_not_sane_is_not_taken_over(client: Client, given: str) -> None:
    first, second = [
        (await client.http.get("/healthz", headers=[(b"x-request-id", given.encode())])).headers["x-request-id"]
        for _ in range(2)
    ]

    assert len(first) == len(second) == 16
    assert first != second
