"""Workers with different versions of a task's code."""

from collections.abc import Callable
from pathlib import Path

from runyard_client.testing.server import RunyardServer
from scripted_executors import client_of
from worker_processes import worker_process

APP = "changing_app:runyard"


async def test_each_version_reads_the_parameters_that_it_knows(
    server: RunyardServer, tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    suffix, url = unique_key(""), server.url
    options = ["--concurrency", "1"]
    async with (
        client_of(url) as client,
        worker_process(url, tmp_path, suffix, *options, app=APP, CHANGING_VERSION="1") as old,
        worker_process(url, tmp_path, suffix, *options, app=APP, CHANGING_VERSION="2") as new,
    ):
        shared = await client.wait_ended(*await client.create("change" + suffix, 20, parameters={"a": 7}))
        assert await old.stop() == 0
        [removed_id] = await client.create(
            "change" + suffix, parameters={"a": 7, "removed": 5}, retryPolicy={"retries": 3}
        )
        [added_id] = await client.create("change" + suffix, parameters={"a": 7, "added": 5})
        removed, added = await client.wait_ended(removed_id, added_id)
        attempts = (await client.read(removed_id))["runCount"]
        assert await new.stop() == 0

    results = [run["state"]["data"]["result"] for run in shared]
    expected = {1: {"version": 1, "a": 7, "removed": 1}, 2: {"version": 2, "a": 7, "added": 2}}
    assert results == [expected[result["version"]] for result in results]
    assert (removed["state"]["type"], attempts) == ("FAILED", 1)
    assert removed["state"]["data"]["error"]["type"] == "runyard_client.errors.BadParameters"
    assert "removed" in removed["state"]["data"]["error"]["message"]
    assert added["state"]["data"] == {"result": {"version": 2, "a": 7, "added": 5}}
