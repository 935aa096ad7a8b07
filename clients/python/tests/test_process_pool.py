"""The pool `process`: one run at a time in a process that can be ended."""

import asyncio
import os
import signal

import pytest

from executing import executing, make_app, process_slot, start_message, wait_for_line


async def test_the_process_starts_with_its_first_run_and_is_kept():
    async with process_slot() as (slot, peer):
        before = slot.pid
        first = (await peer.state("process-id-process"))["data"]["result"]
        second = (await peer.state("process-id-process"))["data"]["result"]

    assert before is None
    assert first == second != os.getpid()


async def test_coroutine_functions_are_executed_too():
    async with process_slot() as (_slot, peer):
        assert (await peer.state("async-process", {"value": 4}))["data"] == {"result": 4}


async def test_coroutine_functions_run_on_the_loop_of_the_start_hooks():
    async with process_slot() as (_slot, peer):
        assert (await peer.state("loop-of-hooks"))["data"] == {"result": True}


@pytest.mark.parametrize("key", ["async-sleep", "async-block"])
async def test_a_coroutine_function_is_cancelled_in_its_process(tmp_path, key):
    path = tmp_path / "lines"
    async with process_slot() as (slot, peer):
        lease = peer.start(key, {"path": str(path)})
        await wait_for_line(path, "begun")
        pid = slot.pid
        peer.cancel(lease)
        state = (await peer.outcome(lease))["state"]
        same_pid = slot.pid == pid

    assert state["type"] == "CANCELLED"
    assert path.read_text() == "begun\ncleaned up\n"
    assert same_pid


async def test_a_run_that_looks_stops_in_its_process(tmp_path):
    async with process_slot() as (slot, peer):
        outcomes, pids = [], []
        for key in ("looks", "checks"):
            lease = peer.start(key, {"path": str(tmp_path / key)})
            await wait_for_line(tmp_path / key)
            peer.cancel(lease)
            outcomes.append((await peer.outcome(lease))["state"])
            pids.append(slot.pid)

    assert outcomes[0] == {"type": "COMPLETED", "data": {"result": "stopped early"}}
    assert outcomes[1]["type"] == "CANCELLED"
    assert pids[0] == pids[1]


async def test_sigterm_after_the_grace_runs_finally_blocks(tmp_path):
    path = tmp_path / "lines"
    async with process_slot() as (slot, peer):
        lease = peer.start("cleans-up", {"path": str(path)})
        await wait_for_line(path, "begun")
        pid = slot.pid
        peer.cancel(lease)
        state = (await peer.outcome(lease))["state"]
        same_pid = slot.pid == pid

    assert state["type"] == "CANCELLED"
    assert path.read_text() == "begun\ncleaned up\n"
    assert same_pid


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("cancelled", {"state": {"type": "CANCELLED", "message": "The run was cancelled and its work has stopped."}}),
        ("drained", {"release": 0.0}),
        ("lease_lost", {"drop": True}),
    ],
)
async def test_what_ignores_sigterm_is_killed_and_the_slot_is_free_again(tmp_path, reason, outcome):
    async with process_slot() as (slot, peer):
        lease = peer.start("stubborn", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        killed = slot.pid
        peer.cancel(lease, reason)
        ended = await peer.outcome(lease)
        after = (await peer.state("process-id-process"))["data"]["result"]

    assert ended == outcome
    assert after != killed
    assert [each for each in peer.messages if each["type"] == "death"] == []


async def test_a_run_over_its_timeout_is_ended():
    async with process_slot() as (_slot, peer):
        state = await peer.state("over-time")

    assert (state["type"], state["name"]) == ("FAILED", "TimedOut")
    assert state["message"] == "TimedOut: The attempt exceeded its timeout of 0.2 seconds."


async def test_a_run_that_is_cancelled_before_its_process_is_ready_never_begins(tmp_path):
    async with process_slot() as (_slot, peer):
        lease = peer.start("looks", {"path": str(tmp_path / "begun")})
        peer.cancel(lease)
        outcome = await peer.outcome(lease)
        await peer.execute("add-process", {"first": 1})

    assert outcome["state"]["type"] == "CANCELLED"
    assert not (tmp_path / "begun").exists()


async def test_a_death_within_a_run_is_reported_with_its_reason():
    async with process_slot() as (slot, peer):
        peer.start("kill-child-process", {"number": int(signal.SIGKILL)})

        assert (await peer.next("death"))["reason"] == "signal 9"
        assert slot.leases == set()


async def test_a_process_that_dies_while_idle_is_replaced_silently():
    async with process_slot() as (slot, peer):
        await peer.execute("add-process", {"first": 1})
        assert slot.pid is not None
        ended = slot._child.exited
        os.kill(slot.pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 30)

        assert (await peer.state("add-process", {"first": 1}))["data"] == {"result": 3}
    assert [each for each in peer.messages if each["type"] == "death"] == []


async def test_signals_for_the_parent_do_not_stop_a_run(tmp_path):
    begun, until = tmp_path / "begun", tmp_path / "until"
    async with process_slot() as (slot, peer):
        lease = peer.start("waits-for-file", {"path": str(begun), "until": str(until)})
        await wait_for_line(begun)
        os.kill(slot.pid, signal.SIGTERM)
        os.kill(slot.pid, signal.SIGINT)
        until.touch()

        assert (await peer.outcome(lease))["state"]["data"] == {"result": "whole"}


async def test_the_latest_progress_is_sent_before_the_end():
    async with process_slot() as (_slot, peer):
        lease = peer.start("reports", {"steps": 1_000})
        await peer.outcome(lease)

    last = [each for each in peer.messages if each["type"] == "progress"][-1]
    assert last == {"type": "progress", "lease": lease, "done": 1_000, "total": 1_000, "message": "working"}


async def test_a_broken_module_is_a_death_of_the_run(monkeypatch):
    async with process_slot() as (_slot, peer):
        monkeypatch.setenv("RUNYARD_TEST_BROKEN", "1")
        peer.start("add-process", {"first": 1})

        assert (await peer.next("death"))["reason"] == "exit code 1"


async def test_a_slot_that_stops_ends_its_run_first(tmp_path):
    async with process_slot() as (slot, peer):
        lease = peer.start("looks", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        slot.send({"type": "stop"})
        peer.cancel(lease)

        assert (await peer.outcome(lease))["state"]["data"] == {"result": "stopped early"}
        await slot.wait_ended()
        assert slot.pid is None


async def test_a_slot_takes_one_run_at_a_time(tmp_path):
    async with process_slot() as (slot, peer):
        peer.start("looks", {"path": str(tmp_path / "begun")})

        with pytest.raises(RuntimeError, match="one run at a time"):
            slot.send(start_message("add-process", {"first": 1}))


async def test_the_progress_of_the_loop_and_of_threads_is_joined():
    app = make_app()

    @app.task(key="counts")
    async def counts():
        from runyard_client import current_run  # noqa: PLC0415 - as a module of the user does

        for number in range(1_000):
            current_run().progress(number)

    async with executing(app) as peer:
        lease = peer.start("counts")
        await peer.outcome(lease)

    sent = [each for each in peer.messages if each["type"] == "progress"]
    assert sent == [{"type": "progress", "lease": lease, "done": 999, "total": None, "message": None}]
