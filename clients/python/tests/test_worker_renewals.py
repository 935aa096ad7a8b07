"""Renewals of a worker, with scripted executors and a real server."""

from collections.abc import Callable
from typing import Any

from faulty_proxy import faulty_proxy
from runyard_client.testing.server import RunyardServer
from runyard_client.worker.coordinator.connection_policy import Connection
from runyard_client.worker.coordinator.exclusive import lease_end
from runyard_client.worker.coordinator.executor_pools import ExecutorSlots, HeldRun
from runyard_client.worker.coordinator.renewals import Renewals
from runyard_client.worker.settings import WorkerSettings
from scripted_executors import ScriptedLink, client_of, describe_task, scripted_worker


class RecordedRequests:
    """Returns HELD for renewals at once, and records them."""

    async def execute(self, operation: str, variables: Any, *, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        raise AssertionError(f"{operation} is not expected")


def held_run(lease: str, *, lease_seconds: float = 60.0, renew_at: float = 0.0, is_confirmed: bool = True) -> HeldRun:
    slots = ExecutorSlots(ScriptedLink())
    run = {"id": lease, "taskKey": "key"}
    return HeldRun(lease, run, 1, slots, lease_seconds, False, 0.0, renew_at, is_confirmed)


def renewals_of(*runs: HeldRun, chance: float = 0.5) -> Renewals:
    settings = WorkerSettings()
    connection = Connection(RecordedRequests(), settings)
    held = {each.lease: each for each in runs}
    return Renewals(held, settings, connection, lambda *_: None, clock=lambda: 0.0, chance=lambda: chance)


async def test_leases_that_are_nearly_due_are_renewed_together() -> None:
    due, nearly, later = (held_run(str(at), renew_at=at) for at in (100.0, 109.0, 111.0))
    renewals = renewals_of(due, nearly, later)

    [renewal] = renewals.take_due(100.0)

    assert [each.lease for each in renewal.runs] == ["100.0", "109.0"]
    assert renewal.lease_seconds == 60.0
    assert later.renew_at == 111.0


async def test_nothing_is_renewed_before_a_lease_is_due() -> None:
    assert renewals_of(held_run("a", renew_at=100.0)).take_due(99.9) == []


async def test_a_lease_is_renewed_at_a_third_of_its_time_with_jitter() -> None:
    times = []
    for chance in (0.0, 0.5, 1.0):
        run = held_run("a", lease_seconds=30.0, renew_at=100.0)
        renewals_of(run, chance=chance).take_due(100.0)
        times.append(round(run.renew_at, 6))

    assert times == [109.0, 110.0, 111.0]


async def test_one_request_renews_at_most_a_thousand_leases() -> None:
    renewals = renewals_of(*(held_run(str(number), renew_at=1.0) for number in range(1_001)))

    assert [len(each.runs) for each in renewals.take_due(1.0)] == [1_000, 1]


async def test_tasks_with_other_lease_times_are_renewed_for_theirs() -> None:
    renewals = renewals_of(held_run("a", renew_at=1.0), held_run("b", lease_seconds=10.0, renew_at=1.0))

    assert [(each.lease_seconds, len(each.runs)) for each in renewals.take_due(1.0)] == [(60.0, 1), (10.0, 1)]


async def test_an_exclusive_run_ends_with_the_last_renewal_that_had_a_response() -> None:
    run = held_run("a", lease_seconds=60.0)
    renewals = renewals_of(run)
    [renewal] = renewals.take_due(100.0)
    [unanswered] = [renewals.take_due(run.renew_at)[0]]
    renewals.finish(renewal, [{"leaseId": "a", "status": "HELD"}])
    renewals.abandon(unanswered, 1.0)

    assert lease_end(run) == 160.0


async def test_a_run_is_confirmed_and_renewed_while_it_executes(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("renew")
    link = ScriptedLink(key, capacity=2)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        run_ids = await client.create(key, 2)
        async with scripted_worker(proxy.url, link, lease_seconds=3, confirm_seconds=0.2):
            leases = {each["lease"] for each in await link.wait_for("start", 2)}
            await link.wait_for("renewed", 6)
            for lease in leases:
                link.finish(lease)
            await client.wait_ended(*run_ids)

    renewed = [each.variables for each in proxy.requests if each.operation == "RenewTaskRunLeases"]
    assert all(set(each["leaseIds"]) == leases for each in renewed)
    assert {each["leaseSeconds"] for each in renewed} == {3}
    assert link.received("cancel") == []


async def test_an_exchange_carries_the_renewals_that_are_due_soon() -> None:
    due, nearly, later = (held_run(str(at), renew_at=at) for at in (100.0, 108.0, 120.0))
    renewals = renewals_of(due, nearly, later)
    renewals.take_due(99.0)

    assert renewals.take_with_exchange(98.9) is None
    renewal = renewals.take_with_exchange(99.0)
    assert renewal is not None
    assert [each.lease for each in renewal.runs] == ["100.0", "108.0"]
    assert renewals.take_with_exchange(99.0) is None


async def test_a_lost_lease_stops_the_work_and_reports_nothing(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("lost")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        [run_id] = await client.create(key)
        async with scripted_worker(proxy.url, link, lease_seconds=2, confirm_seconds=0.1) as worker:
            [start] = await link.wait_for("start")
            # As seen by the server, the worker is gone.
            await client.transport.execute("ReleaseTaskRuns", {"leaseIds": [start["lease"]]})
            [cancel] = await link.wait_for("cancel")
            link.finish(start["lease"])  # faster than its cancellation: the result is dropped
            [again] = (await link.wait_for("start", 2))[1:]
            link.finish(again["lease"])
            await client.wait_ended(run_id)
            assert await worker.stop() == 0

    reports = [each.variables["reports"] for each in proxy.requests if each.operation == "ExchangeTaskRuns"]
    assert cancel == {"type": "cancel", "lease": start["lease"], "reason": "lease_lost"}
    assert [[item["leaseId"] for item in batch] for batch in reports] == [[again["lease"]]]


async def test_only_exclusive_work_stops_without_the_server(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key, exclusive_key = unique_key("work"), unique_key("exclusive")
    link = ScriptedLink(describe_task(key), describe_task(exclusive_key, exclusive=True))
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        await client.create(key)
        [exclusive_id] = await client.create(exclusive_key)
        async with scripted_worker(proxy.url, link, lease_seconds=2, confirm_seconds=0.1):
            leases = {each["run"]["id"]: each["lease"] for each in await link.wait_for("start", 2)}
            for lease in leases.values():
                await link.wait_for("renewed", lease=lease)
            await proxy.disconnect()
            await link.wait_for("cancel")
            cancels = link.received("cancel")

    assert cancels == [{"type": "cancel", "lease": leases[exclusive_id], "reason": "lease_ended"}]
