"""Logging: plain text on a terminal, JSON elsewhere, and the request id on every line of a request."""

import asyncio
import os
import pty
import sys
from typing import Any

import orjson
import pytest

from queries import document
from tests.builders.ids import UNKNOWN_ID
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, ServerProcess

pytestmark = [pytest.mark.processes, SQLITE_ONLY]


def lines_of(log: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.splitlines()]


async def log_of(process: ServerProcess) -> list[dict[str, Any]]:
    """Stop the server and return what it logged after it was ready."""
    await process.terminate()
    return lines_of(await process.read_log())


async def drop_task_run_table(database_url: str) -> None:
    """Drop a table of the running server, to make reading a run fail."""
    path = database_url.removeprefix("sqlite+aiosqlite:///")
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('DROP TABLE task_run')"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, path)
    assert await process.wait() == 0


async def test_without_a_terminal_every_line_is_json(server_process: ServerProcess) -> None:
    await server_process.start()

    lines = await log_of(server_process)

    assert lines != []
    assert all(list(line) == ["time", "level", "logger", "message"] for line in lines)
    assert lines[-1]["message"].startswith("Finished server process")


async def test_a_fault_is_logged_with_the_id_of_its_request(server_process: ServerProcess, database_url: str) -> None:
    client = await server_process.start()
    await drop_task_run_table(database_url)
    body = {"query": document("GetTaskRunState")[0], "variables": {"id": UNKNOWN_ID}}

    response = await client.http.post("/graphql", json=body, headers={"x-request-id": "from-the-proxy"})
    # Sweeps of the server fail too.
    (fault,) = [line for line in await log_of(server_process) if line["message"].startswith("Internal error")]

    id = response.json()["errors"][0]["extensions"]["id"]
    assert response.headers["x-request-id"] == "from-the-proxy"
    assert fault["request_id"] == "from-the-proxy"
    assert (fault["level"], fault["message"]) == ("error", f"Internal error {id} at ['taskRun']")
    assert fault["exception"].endswith("sqlite3.OperationalError: no such table: task_run")


async def test_on_a_terminal_the_log_is_plain_text(database_url: str) -> None:
    controller, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runyard",
        "serve",
        env=environment | {"RUNYARD_DATABASE_URL": database_url, "RUNYARD_PORT": "0"},
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while b"Uvicorn running" not in shown:
            shown += await asyncio.to_thread(os.read, controller, 4096)
    process.terminate()
    await asyncio.wait_for(process.wait(), TIMEOUT_SECONDS)
    os.close(controller)

    first, second, *rest = shown.decode().splitlines()
    path = database_url.removeprefix("sqlite+aiosqlite:///")
    assert first == f"Using SQLite database {path}"
    assert second == "GraphiQL is at http://127.0.0.1:0/"
    assert "INFO     uvicorn.error: Uvicorn running" in "\n".join(rest)


@pytest.mark.parametrize("request_id", ["", "two words", "a" * 129, "naïve", '"quoted"'])
async def test_an_invalid_request_id_is_replaced(client: Client, request_id: str) -> None:
    first, second = [
        (await client.http.get("/healthz", headers=[(b"x-request-id", request_id.encode())])).headers["x-request-id"]
        for _ in range(2)
    ]

    assert len(first) == len(second) == 16
    assert first != second
