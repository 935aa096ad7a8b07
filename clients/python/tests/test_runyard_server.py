"""`RunyardServer`: a real server that tests stop, kill, suspend and start again."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runyard_client.testing.server import RunyardServer, ServerNotStarted, start_server

TIMEOUT_SECONDS = 30.0
CREATE = 'mutation { createTaskRun(input: {taskKey: "send-mail", state: {type: SCHEDULED}}) { taskRun { id } } }'
COUNT = "{ taskRunCount }"


async def send(server: RunyardServer, query: str) -> Any:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(server.url, json={"query": query}) as response,
    ):
        return (await response.json())["data"]


async def test_runs_survive_a_restart_at_the_same_url(own_server: RunyardServer) -> None:
    url = own_server.url
    await send(own_server, CREATE)

    assert own_server.stop() == -signal.SIGTERM
    assert not own_server.is_running
    own_server.start()

    assert own_server.url == url
    assert await send(own_server, COUNT) == {"taskRunCount": 1}


async def test_runs_survive_a_kill(own_server: RunyardServer) -> None:
    await send(own_server, CREATE)
    own_server.kill()
    with pytest.raises(aiohttp.ClientConnectionError):
        await send(own_server, COUNT)
    own_server.start()

    assert await send(own_server, COUNT) == {"taskRunCount": 1}


async def test_a_suspended_server_responds_when_it_continues(own_server: RunyardServer) -> None:
    own_server.pause()
    counting = asyncio.create_task(send(own_server, COUNT))
    _, pending = await asyncio.wait([counting], timeout=0.5)
    assert pending == {counting}

    own_server.resume()

    assert await counting == {"taskRunCount": 0}


def test_a_start_may_have_additional_settings(own_server: RunyardServer) -> None:
    own_server.restart(RUNYARD_LOG_LEVEL="debug")

    assert '"level":"debug"' in own_server.log


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerNotStarted, match="RUNYARD_DATABASE_URL"), start_server(tmp_path, "mysql://nowhere/x"):
        pass


def test_the_settings_of_this_process_are_not_those_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_DATABASE_URL", "mysql://nowhere/x")

    with start_server(tmp_path) as server:
        assert (tmp_path / "runyard.db").exists()

    assert not server.is_running


def test_a_server_that_has_not_started_has_no_url(tmp_path: Path) -> None:
    server = RunyardServer(tmp_path)

    with pytest.raises(RuntimeError, match=r"Call start\(\) first"):
        _ = server.url
    with pytest.raises(RuntimeError, match="not running"):
        server.stop()


def test_a_running_server_is_not_started_twice(server: RunyardServer) -> None:
    with pytest.raises(RuntimeError, match="is running"):
        server.start()
