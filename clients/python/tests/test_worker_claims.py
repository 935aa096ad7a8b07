"""Claims of a worker, with scripted executors and a real server."""

from collections.abc import Callable

import pytest

from faulty_proxy import faulty_proxy
from runyard_client.testing.server import RunyardServer
from runyard_client.worker.coordinator.claims import ClaimPolicy
from runyard_client.worker.coordinator.executor_pools import ExecutorPool, ExecutorSlots
from runyard_client.worker.coordinator.reports import Reports
from runyard_client.worker.settings import WorkerSettings
from scripted_executors import ScriptedLink, client_of, describe_task, scripted_worker

COMPLETED = {"state": {"type": "COMPLETED", "data": {"result": 1}}}


async def test_a_due_run_is_started_with_its_record(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key = unique_key("start")
    link = ScriptedLink(key)
    async with client_of(server.url) as client, scripted_worker(server.url, link):
        [run_id] = await client.create(key, parameters={"to": "ada"}, tags=["mail"])
        [message] = await link.wait_for("start")
        link.finish(message["lease"])
        [run] = await client.wait_ended(run_id)

    assert message["run"]["parameters"] == {"to": "ada"}
    assert message["run"]["tags"] == ["mail"]
    assert message["run"]["runCount"] == 1
    assert message["run"]["stateType"] == "RUNNING"
    assert (message["delivery"], message["worker"]) == (1, "scripted")
    assert run["state"]["data"] == {"result": 1}


async def test_no_more_runs_are_claimed_than_slots_are_free(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("slots")
    link = ScriptedLink(key, capacity=2)
    async with client_of(server.url) as client, scripted_worker(server.url, link):
        run_ids = await client.create(key, 3)
        first, second = await link.wait_for("start", 2)
        before = len(link.received("start"))
        link.finish(first["lease"])
        third = (await link.wait_for("start", 3))[2]
        link.finish(second["lease"])
        link.finish(third["lease"])
        await client.wait_ended(*run_ids)

    assert before == 2
    assert {each["run"]["id"] for each in (first, second, third)} == set(run_ids)


async def test_a_backlog_costs_one_exchange_for_each_batch(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("backlog")
    async with faulty_proxy(server.url) as proxy, client_of(server.url) as client:
        run_ids = await client.create(key, 50)
        link = ScriptedLink(key, capacity=10, respond=lambda _: COMPLETED)
        async with scripted_worker(proxy.url, link, batch_seconds=0.05) as worker:
            await client.wait_ended(*run_ids)
            code = await worker.stop()

    claims = [each for each in proxy.requests if each.operation == "ClaimTaskRuns"]
    exchanges = [each for each in proxy.requests if each.operation == "ExchangeTaskRuns"]
    assert code == 0
    assert claims[0].variables["limit"] == 10
    assert sum(len(each.variables["reports"]) for each in exchanges) == 50
    # Five batches of 10, each reported by one exchange that claims the next; the last claims wait at the server.
    assert len(exchanges) <= 6
    assert len(claims) <= 3


async def test_an_idle_worker_waits_with_one_request(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key, other = unique_key("idle"), unique_key("other")
    async with faulty_proxy(server.url) as proxy:
        async with client_of(server.url) as client, scripted_worker(proxy.url, ScriptedLink(key)):
            claim = await proxy.next_request("ClaimTaskRuns")
            await client.create(other)
            await client.claim(other)
        operations = [each.operation for each in proxy.requests]

    assert operations == ["ServerInfo", "ClaimTaskRuns"]
    assert claim.variables == {
        "taskKeys": [key],
        "limit": 2,
        "leaseSeconds": 60.0,
        "waitSeconds": 30.0,
        "workerName": "scripted",
        "start": True,
    }


async def test_each_pool_has_a_separate_claim(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    key, cpu_key = unique_key("main"), unique_key("cpu")
    tasks = [describe_task(key), describe_task(cpu_key, pool="process")]
    main, process = ScriptedLink(*tasks, capacity=1), ScriptedLink(*tasks, capacity=1, pool="process")
    async with client_of(server.url) as client, scripted_worker(server.url, main, process):
        [main_id, waiting_id] = await client.create(key, 2)
        [cpu_id] = await client.create(cpu_key)
        [main_start] = await main.wait_for("start")
        [cpu_start] = await process.wait_for("start")
        main.finish(main_start["lease"])
        process.finish(cpu_start["lease"])
        waiting_start = (await main.wait_for("start", 2))[1]
        main.finish(waiting_start["lease"])
        await client.wait_ended(main_id, waiting_id, cpu_id)

    assert {main_start["run"]["id"], waiting_start["run"]["id"]} == {main_id, waiting_id}
    assert cpu_start["run"]["id"] == cpu_id


async def test_runs_go_to_the_executor_with_most_free_slots(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("spread")
    links = [ScriptedLink(key, capacity=2), ScriptedLink(key, capacity=2)]
    async with client_of(server.url) as client:
        await client.create(key, 4)
        async with scripted_worker(server.url, *links):
            for link in links:
                await link.wait_for("start", 2)

    assert [len(link.received("start")) for link in links] == [2, 2]


async def test_only_selected_tasks_are_claimed(server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    mail, pdf, other = unique_key("mail"), unique_key("pdf"), unique_key("other")
    tasks = [describe_task(mail, group="mail"), describe_task(pdf, group="pdf"), describe_task(other, group="mail")]
    link = ScriptedLink(*tasks)
    async with (
        faulty_proxy(server.url) as proxy,
        scripted_worker(proxy.url, link, groups=("mail",), except_=(other,)),
    ):
        claim = await proxy.next_request("ClaimTaskRuns")

    assert claim.variables["taskKeys"] == [mail]


async def test_an_executor_that_does_not_respond_gets_no_runs(
    server: RunyardServer, unique_key: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    key = unique_key("blocked")
    link = ScriptedLink(key, capacity=2)
    link.answers_pings = False
    async with (
        client_of(server.url) as client,
        faulty_proxy(server.url) as proxy,
        scripted_worker(proxy.url, link, ping_seconds=0.05) as worker,
    ):
        await client.create(key)
        [start] = await link.wait_for("start")
        while proxy.count("ClaimTaskRuns") < 2:
            await proxy.next_request("ClaimTaskRuns")
        # The claim for the free slot ends, and no other follows while the executor is blocked.
        await proxy.requests[-1].ended.wait()
        free_while_blocked = worker.coordinator.main.free
        claims_while_blocked = proxy.count("ClaimTaskRuns")
        link.answers_pings = True
        [ping] = link.received("ping")
        link.emit({"type": "pong", "number": ping["number"], "onLoop": []})
        claim = await proxy.next_request("ClaimTaskRuns")

    assert free_while_blocked == 0
    assert claims_while_blocked == 2
    assert claim.variables["limit"] == 1
    assert f"{start['run']['name']} ({key})" in caplog.text


async def test_claims_pause_while_reports_have_no_response(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("unanswered")
    link = ScriptedLink(key, capacity=1, respond=lambda _: COMPLETED)
    async with client_of(server.url) as client, faulty_proxy(server.url) as proxy:
        proxy.refuse("ExchangeTaskRuns", 503, times=1_000)
        run_ids = await client.create(key, 4)
        async with scripted_worker(proxy.url, link):
            await link.wait_for("start")
            for _ in range(3):
                await proxy.next_request("ExchangeTaskRuns")
            started_without_reports = len(link.received("start"))
            proxy.stop_faults()
            await client.wait_ended(*run_ids)
        runs = [await client.read(run_id) for run_id in run_ids]

    assert started_without_reports == 1
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 4
    assert [run["runCount"] for run in runs] == [1] * 4


async def test_unanswered_ends_are_bounded_by_twice_the_concurrency() -> None:
    pool, reports = ExecutorPool("main", task_keys=["key"]), Reports()
    pool.executors.append(ExecutorSlots(ScriptedLink(capacity=2)))
    policy = ClaimPolicy(WorkerSettings(), reports, [pool])

    limits = []
    for number in range(5):
        limits.append(policy.limit(pool))
        reports.add(f"run-{number}", "name", f"lease-{number}", {"type": "COMPLETED"})

    assert limits == [2, 2, 2, 2, 0]


async def test_a_claim_with_too_large_a_response_asks_for_fewer_runs(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("large")
    too_large = {"errors": [{"message": "Too large.", "extensions": {"code": "RESPONSE_TOO_LARGE"}}], "data": None}
    async with faulty_proxy(server.url) as proxy:
        proxy.refuse("ClaimTaskRuns", 200, body=too_large)
        async with scripted_worker(proxy.url, ScriptedLink(key, capacity=8)):
            await proxy.next_request("ClaimTaskRuns")
            while proxy.count("ClaimTaskRuns") < 2:
                await proxy.next_request("ClaimTaskRuns")
    limits = [each.variables["limit"] for each in proxy.requests if each.operation == "ClaimTaskRuns"]
    assert limits[:2] == [8, 4]


async def test_a_worker_with_once_executes_what_is_due_and_exits(
    server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    key = unique_key("once")
    link = ScriptedLink(key, capacity=2, respond=lambda _: COMPLETED)
    async with client_of(server.url) as client:
        run_ids = await client.create(key, 5)
        [later_id] = await client.create(key, delaySeconds=3600)
        async with scripted_worker(server.url, link, once=True) as worker:
            code = await worker.exit_code()
        runs = [await client.read(run_id) for run_id in run_ids]
        later = await client.read(later_id)

    assert code == 0
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 5
    assert later["state"]["type"] == "SCHEDULED"
