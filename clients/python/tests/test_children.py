"""Child processes of a worker: their messages, their deaths, and the death of their parent."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from executing import APP, WAIT_SECONDS, Peer, child, wait_for_line
from runyard_client.worker.executors.links import ChildLink
from runyard_client.worker.messages import ExecutorFailed

PARENT = """
import asyncio, sys
from executing import Peer, child, process_slot

async def main(kind, key, path):
    async with (process_slot if kind == "process" else child)() as (link, peer):
        peer.start(key, {"path": path})
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_child_executes_runs_of_the_loop_and_of_threads():
    async with child() as (link, peer):
        leases = [peer.start(key, {"first": number}) for key in ("add", "add-thread") for number in range(20)]
        outcomes = [await peer.outcome(lease) for lease in leases]
        ids = (await peer.state("process-id"))["data"]

    assert [each["state"]["data"]["result"] for each in outcomes] == [number + 2 for number in range(20)] * 2
    assert ids == {"result": link.pid}
    assert link.pid != os.getpid()


async def test_ready_describes_the_tasks_without_an_import_in_the_parent():
    peer = Peer()
    link = ChildLink(APP, capacity=1)
    ready = await link.start(peer.receive, peer.die)
    await link.close(0)

    tasks = {task["key"]: task for task in ready["tasks"]}
    assert tasks["stubborn"] == {
        "key": "stubborn",
        "pool": "process",
        "group": "default",
        "leaseSeconds": None,
        "exclusive": False,
        "grace": 0.1,
        "timeout": None,
    }
    assert tasks["over-time"]["timeout"] == 0.2
    assert tasks["add"]["pool"] == "loop"


async def test_parameters_and_results_of_mebibytes_pass():
    async with child() as (_link, peer):
        leases = [peer.start("length", {"text": "x" * 5_000_000}) for _ in range(3)]
        lengths = [(await peer.outcome(lease))["state"]["data"]["result"] for lease in leases]
        big = (await peer.state("big", {"size": 200_000}))["data"]["result"]

    assert lengths == [5_000_000] * 3
    assert big == "x" * 200_000


async def test_output_of_tasks_is_left_alone(capfd):
    async with child() as (_link, peer):
        await peer.execute("print", {"text": "hello"})

    output = capfd.readouterr()
    assert output.out == "hello\n"
    assert "hello\n" in output.err
    assert '"message":"logged hello","run_id":"run-of-lease-' in output.err


@pytest.mark.parametrize(
    ("key", "parameters", "reason"),
    [
        ("kill-child", {"number": int(signal.SIGKILL)}, "signal 9"),
        ("kill-child", {"number": int(signal.SIGSEGV)}, "signal 11"),
        ("exit-child", {"code": 3}, "exit code 3"),
        ("exit-child", {"code": 0}, "exit code 0"),
    ],
)
async def test_a_death_is_reported_with_its_reason(key, parameters, reason):
    async with child() as (link, peer):
        lease = peer.start(key, parameters)

        assert await peer.next("death") == {"type": "death", "reason": reason}
        assert link.leases == {lease}


def block_until(is_true):
    """Wait without giving the event loop a turn."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_what_a_child_sent_before_its_death_arrives_before_it():
    async with child() as (link, peer):
        await peer.execute("add", {"first": 1})
        process = link._process
        lease = peer.start("add", {"first": 1})
        await asyncio.sleep(0)  # writes the message
        block_until(lambda: select.select([process._reader._fd], [], [], 0)[0])
        process.kill()
        block_until(lambda: process._process.returncode is not None)
        await peer.next("death")

    assert [each.get("lease") for each in peer.messages] == [lease]


async def test_messages_to_a_dead_child_are_dropped():
    async with child() as (_link, peer):
        peer.start("exit-child", {"code": 1})
        await peer.next("death")
        peer.cancel("lease")
        peer.send({"type": "ping", "number": 1})


async def test_signals_for_the_parent_do_not_end_a_child():
    async with child() as (link, peer):
        assert os.getpgid(link.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(link.pid, number)

        assert (await peer.state("add", {"first": 1}))["data"] == {"result": 3}


async def test_an_exit_in_a_background_task_does_not_end_the_child():
    async with child() as (_link, peer):
        assert (await peer.state("exit-in-background"))["data"] == {"result": "continued"}
        assert (await peer.state("add", {"first": 1}))["data"] == {"result": 3}


async def test_a_child_that_must_stop_ends_its_runs_first(tmp_path):
    async with child() as (link, peer):
        lease = peer.start("sleep", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        link.send({"type": "stop"})
        peer.cancel(lease)
        outcome = await peer.outcome(lease)
        await link.wait_ended()

    assert outcome["state"]["type"] == "CANCELLED"
    assert [each for each in peer.messages if each["type"] == "death"] == []


async def test_a_stopping_child_that_dies_with_a_run_is_a_death(tmp_path):
    async with child() as (link, peer):
        peer.start("sleep", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        link.send({"type": "stop"})
        os.kill(link.pid, signal.SIGKILL)

        assert (await peer.next("death"))["reason"] == "signal 9"


async def test_a_child_ends_although_a_thread_does_not(tmp_path):
    async with child() as (link, peer):
        lease = peer.start("stuck-thread", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        peer.cancel(lease)
        await peer.next("lost_slots", count=1)
        link.send({"type": "stop"})
        outcome = await peer.outcome(lease)
        await link.wait_ended()

    assert outcome["state"]["type"] == "CANCELLED"


async def test_a_blocked_loop_sends_no_pong_and_its_child_can_be_killed(tmp_path):
    async with child() as (link, peer):
        lease = peer.start("block-loop", {"path": str(tmp_path / "begun")})
        assert await wait_for_line(tmp_path / "begun") == str(link.pid)
        peer.send({"type": "ping", "number": 1})
        await link.close(0.1)

    assert peer.messages == []
    assert link.leases == {lease}


@pytest.mark.parametrize("key", ["hold-gil"])
async def test_the_pong_of_a_loop_that_was_blocked_arrives_after_the_run(tmp_path, key):
    async with child() as (_link, peer):
        lease = peer.start(key, {"path": str(tmp_path / "begun"), "seconds": 1})
        await wait_for_line(tmp_path / "begun")
        peer.send({"type": "ping", "number": 1})
        await peer.next("pong")

    assert [each["lease"] for each in peer.messages if each["type"] == "done"] in ([], [lease])


async def test_a_module_that_cannot_be_imported_is_reported_with_its_traceback(monkeypatch):
    monkeypatch.setenv("RUNYARD_TEST_BROKEN", "1")
    link = ChildLink(APP, capacity=1)

    with pytest.raises(ExecutorFailed, match="RuntimeError: this module is broken") as caught:
        await link.start(Peer().receive, Peer().die)

    assert "executor_app.py" in caught.value.traceback


@pytest.mark.parametrize(
    ("app", "error"),
    [
        ("executing", "must be given as MODULE:APP"),
        ("executing:Peer", "must be a Runyard; got type"),
        ("executing:nothing", "has no attribute 'nothing'"),
        ("no.such.module:app", "ModuleNotFoundError"),
        ("/no/such/file.py:app", "There is no Python file"),
    ],
)
async def test_a_wrong_reference_is_reported(app, error):
    with pytest.raises(ExecutorFailed, match=error):
        await ChildLink(app, capacity=1).start(Peer().receive, Peer().die)


async def test_a_child_that_dies_before_it_is_ready_is_reported(tmp_path):
    module = tmp_path / "dies.py"
    module.write_text("import os; os._exit(7)")

    with pytest.raises(ExecutorFailed, match="ended before it was ready: exit code 7"):
        await ChildLink(f"{module}:app", capacity=1).start(Peer().receive, Peer().die)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path):
    module, begun = tmp_path / "slow.py", tmp_path / "begun"
    module.write_text(f"import os, time\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    link = ChildLink(f"{module}:app", capacity=1)

    starting = asyncio.create_task(link.start(Peer().receive, Peer().die))
    await wait_for_line(begun)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert link._process.exited.is_set()


@pytest.mark.parametrize(
    ("kind", "key"), [("main", "sleep"), ("main", "block-loop"), ("main", "stuck-thread"), ("process", "stubborn")]
)
def test_children_end_when_their_parent_dies(tmp_path, kind, key):
    path = tmp_path / "begun"
    command = [sys.executable, "-c", PARENT, kind, key, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent) as parent:
        assert parent.stdout is not None
        asyncio.run(wait_for_line(path))
        parent.kill()

        # The children have inherited stdout: it ends when the last of them has ended.
        assert parent.stdout.read() == b""


async def test_uvloop_is_used_if_asked(tmp_path):
    pytest.importorskip("uvloop")

    async with child(uvloop=True) as (_link, peer):
        assert (await peer.state("add", {"first": 1}))["data"] == {"result": 3}
        peer.start("exit-child", {"code": 3})
        await peer.next("death")
