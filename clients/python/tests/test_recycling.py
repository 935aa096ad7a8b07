"""Supervision: children are replaced after their deaths, and after a number of runs or above a size of memory."""

import asyncio
from itertools import count

import pytest

from executing import wait_for_line
from runyard_client.worker.executors.recycling import MemoryReader, RecyclingPolicy, peak_memory_mib
from runyard_client.worker.messages import ExecutorFailed
from supervising import supervised


@pytest.mark.parametrize(
    ("policy", "runs", "mib", "is_due"),
    [
        (RecyclingPolicy(), 1_000_000, 1_000_000, False),
        (RecyclingPolicy(runs=10), 9, 1_000_000, False),
        (RecyclingPolicy(runs=10), 10, 0, True),
        (RecyclingPolicy(mib=100), 1_000_000, 100, False),
        (RecyclingPolicy(mib=100), 1, 100.5, True),
    ],
)
def test_a_child_is_due_at_its_limit(policy, runs, mib, is_due):
    assert policy.is_due(runs, mib) is is_due


def test_the_memory_of_this_process_is_read():
    reader = MemoryReader()
    before = reader.read_mib()
    block = b"x" * 50_000_000
    after = reader.read_mib()
    reader.close()

    assert len(block) / 1_048_576 - 5 < after - before < len(block) / 1_048_576 + 5
    assert 0 < before < after <= peak_memory_mib() + 5


async def test_a_dead_child_is_replaced():
    async with supervised() as (supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        coordinator.start("exit-child", {"code": 3})
        death = await coordinator.next("on_death")
        second = (await coordinator.next("on_ready"))["link"]
        result = (await coordinator.state("process-id"))["data"]["result"]

    assert (death["link"], death["reason"]) == (first, "exit code 3")
    assert second is supervisor.link
    assert result == second.pid != first.pid


async def test_five_early_deaths_in_a_row_end_the_worker():
    async with supervised(clock=lambda: 0.0) as (_supervisor, coordinator):
        coordinator.ready_hooks.append(lambda _link: coordinator.start("exit-child", {"code": 3}))
        coordinator.start("exit-child", {"code": 3})
        giving_up = await coordinator.next("on_giving_up")

    assert giving_up["reason"] == "exit code 3"
    assert coordinator.events == ["on_ready", *["on_death", "on_ready"] * 4, "on_death"]


async def test_deaths_after_ten_seconds_never_end_the_worker():
    times = count(0, 20)

    async with supervised(clock=lambda: float(next(times))) as (_supervisor, coordinator):
        coordinator.ready_hooks.append(lambda _link: coordinator.start("exit-child", {"code": 3}))
        coordinator.start("exit-child", {"code": 3})
        for _ in range(6):
            await coordinator.next("on_death")

    assert "on_giving_up" not in coordinator.events


async def test_a_first_child_that_cannot_start_raises(monkeypatch):
    monkeypatch.setenv("RUNYARD_TEST_BROKEN", "1")

    with pytest.raises(ExecutorFailed, match="this module is broken"):
        async with supervised():
            pass


async def test_a_successor_that_cannot_start_is_tried_five_times(monkeypatch):
    async with supervised(clock=lambda: 0.0) as (_supervisor, coordinator):
        monkeypatch.setenv("RUNYARD_TEST_BROKEN", "1")
        coordinator.start("exit-child", {"code": 3})
        giving_up = await coordinator.next("on_giving_up")

    assert giving_up["reason"] == "RuntimeError: this module is broken"


async def test_a_recycled_child_ends_its_runs_after_its_successor_has_started(tmp_path):
    policy = RecyclingPolicy(runs=2)
    async with supervised(recycling=policy) as (_supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        lease = coordinator.start("sleep", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        for _ in range(2):
            await coordinator.execute("add", {"first": 1})
        second = (await coordinator.next("on_ready"))["link"]
        retiring = await coordinator.next("on_retiring")
        first.send({"type": "cancel", "lease": lease, "reason": "cancelled"})
        outcome = await coordinator.outcome(lease)
        gone = await coordinator.next("on_gone")

    assert retiring["link"] is gone["link"] is first
    assert second is not first
    assert outcome["state"]["type"] == "CANCELLED"
    assert "on_death" not in coordinator.events


async def test_a_retiring_child_that_dies_with_a_run_is_a_death_and_not_replaced_again(tmp_path):
    async with supervised() as (supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        coordinator.start("sleep", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        await supervisor.replace()
        first._process.kill()
        death = await coordinator.next("on_death")
        result = (await coordinator.state("add", {"first": 1}))["data"]

    assert (death["link"], death["reason"]) == (first, "signal 9")
    assert result == {"result": 3}
    assert coordinator.events == ["on_ready", "on_retiring"]


async def test_a_child_that_dies_while_its_successor_starts_gets_no_second_one():
    async with supervised() as (supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        replacing = asyncio.create_task(supervisor.replace())
        await asyncio.sleep(0)
        first._process.kill()
        await coordinator.next("on_death")
        await replacing
        second = (await coordinator.next("on_ready"))["link"]
        result = (await coordinator.state("process-id"))["data"]["result"]

    assert result == second.pid
    assert coordinator.events == []


async def test_a_child_that_dies_while_its_successor_fails_is_replaced_again(monkeypatch):
    async with supervised() as (supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        monkeypatch.setenv("RUNYARD_TEST_BROKEN", "1")
        replacing = asyncio.create_task(supervisor.replace())
        await asyncio.sleep(0)
        monkeypatch.delenv("RUNYARD_TEST_BROKEN")
        first._process.kill()
        await coordinator.next("on_death")
        with pytest.raises(ExecutorFailed):
            await replacing

        assert (await coordinator.next("on_ready"))["link"] is not first


async def test_a_child_above_its_memory_is_replaced():
    async with supervised(recycling=RecyclingPolicy(mib=1)) as (_supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        await coordinator.execute("add", {"first": 1})
        second = (await coordinator.next("on_ready"))["link"]
        gone = await coordinator.next("on_gone")

    assert gone["link"] is first is not second


async def test_a_child_with_half_of_its_slots_lost_is_replaced(tmp_path):
    async with supervised(capacity=2) as (_supervisor, coordinator):
        first = (await coordinator.next("on_ready"))["link"]
        lease = coordinator.start("stuck-thread", {"path": str(tmp_path / "begun")})
        await wait_for_line(tmp_path / "begun")
        coordinator.cancel(lease)
        second = (await coordinator.next("on_ready"))["link"]
        outcome = await coordinator.outcome(lease)
        gone = await coordinator.next("on_gone")

    assert gone["link"] is first is not second
    assert outcome["state"]["type"] == "CANCELLED"
