"""`--reload`: executors are replaced when a file changes; code that cannot be imported changes nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executing import APP, Peer, wait_for_line
from runyard_client.worker.executors.child_process import ChildSettings
from runyard_client.worker.executors.links import ChildLink
from runyard_client.worker.executors.reload import (
    ReloadUnavailable,
    check_reload,
    reload_on_changes,
    shorten,
    watch_files,
)
from supervising import supervised

MODULE = """
from runyard_client import Runyard
app = Runyard("http://127.0.0.1:9")

@app.task(key="version")
async def version():
    return {version}

@app.task(key="wait")
async def wait(path: str):
    open(path, "w").write("begun\\n")
    import asyncio
    await asyncio.sleep(600)
"""


async def one_change() -> AsyncIterator[set[str]]:
    yield {"changed.py"}


async def test_a_change_starts_the_new_code(tmp_path):
    module = tmp_path / "changing.py"
    module.write_text(MODULE.format(version=1))

    async with supervised(f"{module}:app") as (supervisor, coordinator):
        before = (await coordinator.state("version"))["data"]
        module.write_text(MODULE.format(version=22))
        await reload_on_changes(one_change(), [supervisor.replace])
        after = (await coordinator.state("version"))["data"]
        await coordinator.next("on_gone")

    assert (before, after) == ({"result": 1}, {"result": 22})


async def test_code_that_cannot_be_imported_keeps_the_old_executor(tmp_path, caplog):
    module = tmp_path / "breaking.py"
    module.write_text(MODULE.format(version=1))

    async with supervised(f"{module}:app") as (supervisor, coordinator):
        module.write_text("def broken(")
        with caplog.at_level(logging.ERROR, "runyard_client.worker"):
            await reload_on_changes(one_change(), [supervisor.replace])
        after = (await coordinator.state("version"))["data"]

    assert after == {"result": 1}
    assert "SyntaxError" in caplog.text
    assert coordinator.events == ["on_ready"]


async def test_runs_of_the_old_code_are_released_after_the_grace(tmp_path):
    module = tmp_path / "releasing.py"
    module.write_text(MODULE.format(version=1))

    async with supervised(f"{module}:app") as (supervisor, coordinator):
        lease = coordinator.start("wait", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        await supervisor.replace(0.01)

        assert await coordinator.outcome(lease) == {"release": 0.0}
        await coordinator.next("on_gone")


async def test_ready_has_the_folders_of_the_modules_of_the_user():
    link = ChildLink(APP, capacity=1, settings=ChildSettings(report_folders=True))
    ready = await link.start(Peer().receive, Peer().die)
    await link.close(0)

    assert str(Path(__file__).parent) in ready["folders"]


async def test_changed_files_are_watched(tmp_path):
    pytest.importorskip("watchfiles")
    changes = watch_files([str(tmp_path)])

    next_change = asyncio.ensure_future(anext(changes))
    for number in range(100):  # until the watch has begun
        (tmp_path / "module.py").write_text(f"version = {number}")
        done, _ = await asyncio.wait([next_change], timeout=0.3)
        if done:
            break
    await changes.aclose()

    assert next_change.result() == {str(tmp_path / "module.py")}


def test_reload_without_watchfiles_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)

    with pytest.raises(ReloadUnavailable, match=r"runyard-client\[reload\]"):
        check_reload()


def test_paths_below_the_current_folder_are_short(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert shorten(str(tmp_path / "shop" / "tasks.py")) == str(Path("shop") / "tasks.py")
    assert shorten("/elsewhere/tasks.py") == "/elsewhere/tasks.py"
