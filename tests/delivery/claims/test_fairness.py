"""Fairness: task keys take turns, and within a key retries come before scheduled runs."""

from hypothesis import given
from hypothesis import strategies as st

from db.records import QueueEntryRecord
from resolvers.delivery.claim import Demand, assign_round_robin
from resolvers.queue.multi_queue import MultiQueue
from resolvers.queue.task_queue import TaskQueue
from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.client import Client

KEYS = ["a", "b", "c"]


def entry(key: str, number: int, *, is_retry: bool = False) -> QueueEntryRecord:
    return QueueEntryRecord(
        f"{key}{number}", key, is_retry, f"2030-01-01T12:00:00.{number:06}Z", 0, None, None, None, False, None
    )


def demand(subscriber: int, keys: str, credit: int) -> Demand:
    return Demand(subscriber, frozenset(keys), credit, 60.0, None)


async def test_a_busy_key_does_not_starve_a_quiet_one(client: Client) -> None:
    busy = await create_many(client, 20, "busy")
    quiet = await create_many(client, 2, "quiet")

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["busy", "quiet"], prefetch=5)
        delivered = run_ids(await socket.deliveries(5))

    assert delivered == [busy[0], quiet[0], busy[1], quiet[1], busy[2]]


async def test_round_robin_continues_from_one_delivery_to_the_next(client: Client) -> None:
    await create_many(client, 3, "a")
    await create_many(client, 3, "b")

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["a", "b"], autoAcknowledge=True)
        delivered = [delivery["taskRun"]["taskKey"] for delivery in await socket.deliveries(6)]

    assert delivered == ["a", "b", "a", "b", "a", "b"]


async def test_quiet_keys_are_served_early_beside_ten_thousand_runs_of_another(
    client: Client,
) -> None:
    for _ in range(10):
        await create_many(client, 1000, "busy")
    quiet = {id for key in ("q1", "q2", "q3", "q4") for id in await create_many(client, 10, key)}

    delivered: list[str] = []
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["busy", "q1", "q2", "q3", "q4"], prefetch=8)
        while len(delivered) < 250 and not quiet <= set(delivered):
            event = await socket.event()
            delivered += run_ids(event)
            await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(event))

    assert quiet <= set(delivered[:250])


async def test_continuous_retries_do_not_starve_scheduled_runs_across_claims(client: Client) -> None:
    inputs = [{"taskKey": "t", "state": {"type": "SCHEDULED", "name": name}} for name in ["AwaitingRetry"] * 9]
    retries = [
        payload["taskRun"]["id"] for payload in (await client.execute("CreateTaskRuns", inputs=inputs))["results"]
    ]
    scheduled = await create_many(client, 2)

    claimed = [(await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"] for _ in range(11)]

    order = [id for deliveries in claimed for id in run_ids(deliveries)]
    assert order == [*retries[:4], scheduled[0], *retries[4:8], scheduled[1], retries[8]]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 9))
def test_retries_come_first_but_at_most_four_before_a_scheduled_run(
    sides: list[bool], consecutive_retries: int
) -> None:
    entries = [entry("a", number, is_retry=is_retry) for number, is_retry in enumerate(sides)]
    queue = TaskQueue("a", reversed(entries), consecutive_retries)
    waiting = {side: [each for each in entries if each.is_retry is side] for side in (True, False)}

    while len(queue):
        takes_retry = bool(waiting[True]) and (consecutive_retries < 4 or not waiting[False])
        assert queue.take() is waiting[takes_retry].pop(0)
        consecutive_retries = consecutive_retries + 1 if takes_retry else 0
        assert queue.consecutive_retries == consecutive_retries
    assert waiting == {True: [], False: []}


def test_retries_of_a_key_are_assigned_first() -> None:
    multi_queue = MultiQueue.of([entry("a", 1), entry("a", 2), entry("a", 3, is_retry=True)], ["a"])

    assigned = assign_round_robin(multi_queue, [demand(1, "a", 3)])

    assert [each.task_run_id for _, each in assigned] == ["a3", "a1", "a2"]


def test_subscribers_of_one_key_take_turns() -> None:
    multi_queue = MultiQueue.of([entry("a", number) for number in range(5)], ["a"])

    assigned = assign_round_robin(multi_queue, [demand(1, "a", 3), demand(2, "ab", 3)])

    assert [each.subscriber for each, _ in assigned] == [1, 2, 1, 2, 1]


ENTRIES = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=30).map(
    lambda pairs: [entry(key, number, is_retry=is_retry) for number, (key, is_retry) in enumerate(pairs)]
)
DEMANDS = st.lists(st.tuples(st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 5)), max_size=4).map(
    lambda pairs: [demand(number, "".join(keys), credit) for number, (keys, credit) in enumerate(pairs)]
)


@given(ENTRIES, DEMANDS)
def test_subscribers_get_only_their_keys_within_credit_and_no_run_twice(
    entries: list[QueueEntryRecord], demands: list[Demand]
) -> None:
    assigned = assign_round_robin(MultiQueue.of(entries, KEYS), demands)

    ids = [each.task_run_id for _, each in assigned]
    assert len(set(ids)) == len(ids)
    for one in demands:
        got = [each for to, each in assigned if to.subscriber == one.subscriber]
        assert len(got) <= one.credit
        assert {each.task_key for each in got} <= one.task_keys


@given(ENTRIES, DEMANDS)
def test_a_run_stays_queued_only_without_a_subscriber_with_credit(
    entries: list[QueueEntryRecord], demands: list[Demand]
) -> None:
    assigned = assign_round_robin(MultiQueue.of(entries, KEYS), demands)

    assigned_ids = {each.task_run_id for _, each in assigned}
    for one in demands:
        spent = sum(to.subscriber == one.subscriber for to, _ in assigned)
        left = [each for each in entries if each.task_run_id not in assigned_ids and each.task_key in one.task_keys]
        assert spent == one.credit or not left


@given(ENTRIES, st.integers(1, 30))
def test_between_two_turns_of_a_key_each_nonempty_key_has_one(entries: list[QueueEntryRecord], credit: int) -> None:
    assigned = assign_round_robin(MultiQueue.of(entries, KEYS), [demand(1, "abc", credit)])

    keys = [each.task_key for _, each in assigned]
    remaining = {key: sum(each.task_key == key for each in entries) for key in KEYS}
    waited = dict.fromkeys(KEYS, 0)
    for current in keys:
        remaining[current] -= 1
        for key in KEYS:
            waited[key] = 0 if key == current else waited[key] + 1
            assert waited[key] <= 2 or remaining[key] == 0
