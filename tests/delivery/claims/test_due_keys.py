"""Claims read only the task keys that may have a due run, and every due run is still delivered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from db.connection import Connection, Notification, NotificationsMissed
from db.runtime.timestamps import format_timestamp
from resolvers.delivery import dispatcher
from resolvers.delivery.claim import Claim, ClaimRequest, claim_due_runs
from resolvers.delivery.dispatcher import Dispatcher
from resolvers.delivery.due_keys import DueKeys
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import TIMEOUT_SECONDS
from tests.clock import START
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server

MANY_KEYS = [f"key-{number:03}" for number in range(1000)]
POLL_SECONDS = 20.0


@pytest.fixture
def claimed_keys(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The task keys that each claim of subscribers has read, in the order of the claims."""
    read: list[list[str]] = []

    def record_keys(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | Exception]:
        read.extend(sorted(request.key_order) for request in requests)
        return claim_due_runs(connection, requests)

    monkeypatch.setattr(dispatcher, "claim_due_runs", record_keys)
    return read


@pytest.fixture
async def server(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server that has started to receive the notifications of others: it then reads all keys once."""
    is_listening = asyncio.Event()
    on_notifications = Dispatcher._on_notifications

    def record(self: Dispatcher, notifications: Sequence[Notification]) -> None:
        on_notifications(self, notifications)
        if NotificationsMissed() in notifications:
            is_listening.set()

    monkeypatch.setattr(Dispatcher, "_on_notifications", record)
    async with run_server(tmp_path, database_url=database_url) as running:
        if running.services.database.is_shared:
            await asyncio.wait_for(is_listening.wait(), TIMEOUT_SECONDS)
        yield running


async def test_acknowledging_the_last_run_causes_no_claim(server: RunningServer, claimed_keys: list[list[str]]) -> None:
    client = server.client
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await server.clock.wait_for_waiter(15)
        for _ in range(2):
            id = await create_scheduled(client)
            deliveries = await socket.deliveries(1)
            assert run_ids(deliveries) == [id]
            await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(deliveries))

    assert claimed_keys == [["t"]] * 3


async def test_acknowledging_brings_the_next_of_several_runs_with_one_claim_each(
    server: RunningServer, claimed_keys: list[list[str]]
) -> None:
    client = server.client
    ids = await create_many(client, 3)
    delivered: list[str] = []
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        for _ in ids:
            deliveries = await socket.deliveries(1)
            delivered += run_ids(deliveries)
            await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(deliveries))

    assert delivered == ids
    assert claimed_keys == [["t"]] * 3


async def test_after_the_first_claim_of_a_thousand_keys_only_those_with_runs_are_read(
    server: RunningServer, claimed_keys: list[list[str]]
) -> None:
    client = server.client
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=MANY_KEYS, prefetch=10)
        await server.clock.wait_for_waiter(15)
        delivered: list[str] = []
        created: list[str] = []
        for key in ("key-007", "key-500", "key-999"):
            created += await create_many(client, 2, key)
            delivered += run_ids(await socket.deliveries(2))

    assert delivered == created
    assert claimed_keys == [MANY_KEYS, ["key-007"], ["key-500"], ["key-999"]]


async def test_a_run_that_becomes_due_is_claimed_from_its_key_only(
    server: RunningServer, claimed_keys: list[list[str]]
) -> None:
    client = server.client
    id = await create_scheduled(client, at=server.clock.in_seconds(10))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["other", "t"])
        await server.clock.wait_for_waiter(10)

        server.clock.advance(10)

        assert run_ids(await socket.deliveries(1)) == [id]
    assert claimed_keys == [["other", "t"], ["t"]]


async def test_a_claim_over_http_ends_its_wait_without_a_second_look(
    server: RunningServer, claimed_keys: list[list[str]]
) -> None:
    claiming = asyncio.create_task(server.client.execute("ClaimTaskRuns", taskKeys=["t"], waitSeconds=10))
    await server.clock.wait_for_waiter(10)
    server.clock.advance(10)

    assert (await claiming)["deliveries"] == []
    assert claimed_keys == [["t"]]


async def test_a_claim_over_http_looks_although_a_subscriber_has_found_nothing(server: RunningServer) -> None:
    client = server.client
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        held = await create_scheduled(client)
        assert run_ids(await socket.deliveries(1)) == [held]
        id = await create_scheduled(client)

        claimed = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert run_ids(claimed) == [id]


@POSTGRESQL_ONLY
async def test_a_run_whose_notification_was_lost_is_delivered_at_the_next_poll(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server,
        server.client.socket() as socket,
    ):
        id = await create_scheduled(server.client, at=server.clock.in_seconds(3600))
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await server.clock.wait_for_waiter(POLL_SECONDS)
        # As another server does, but without its notification.
        async with database_connection(database_url) as connection:
            await connection.execute("UPDATE queue_entry SET available_at = $1", START)

        server.clock.advance(POLL_SECONDS)

        assert run_ids(await socket.deliveries(1)) == [id]


def due_keys_of(*keys: str) -> DueKeys:
    due_keys = DueKeys(Counter(keys))
    due_keys.expect(keys)
    return due_keys


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_claim_decides_when_each_key_is_read_again() -> None:
    due_keys = due_keys_of("a", "b", "c", "d")
    due_keys.begin_claim(["a", "b", "c"])

    due_keys.complete_claim(["a", "b", "c"], {"a": format_timestamp(at(0)), "b": format_timestamp(at(10))})

    assert due_keys.expected(at(0)) == {"a", "d"}
    assert due_keys.next_due_at == at(10)
    assert due_keys.expected(at(10)) == {"a", "b", "d"}
    assert due_keys.next_due_at is None


def test_a_notification_during_a_claim_outlasts_its_result() -> None:
    due_keys = due_keys_of("a")
    due_keys.begin_claim(["a"])
    due_keys.expect(["a"])

    due_keys.complete_claim(["a"], {})

    assert due_keys.expected(at(0)) == {"a"}


def test_keys_without_subscribers_are_ignored_and_forgotten() -> None:
    wanted = Counter(["a", "b"])
    due_keys = DueKeys(wanted)
    due_keys.expect(["a", "b", "unwanted"])
    due_keys.begin_claim(["b"])
    due_keys.complete_claim(["b"], {"b": format_timestamp(at(10))})
    wanted.clear()

    due_keys.forget(["a", "b"])

    assert (due_keys.expected(at(20)), due_keys.next_due_at) == (set(), None)


KEYS = st.sampled_from("abc")


class DueKeysMachine(RuleBasedStateMachine):
    """Runs, claims and subscribers in any order. The claim reads between its begin and its end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.wanted: Counter[str] = Counter()
        self.due_keys = DueKeys(self.wanted)
        self.runs: dict[str, list[datetime]] = {key: [] for key in "abc"}
        """Due times of the waiting runs of each key."""
        self.claimed: frozenset[str] = frozenset()
        """Keys of the claim in progress."""
        self.read: dict[str, str] | None = None
        """What the claim in progress has read, None before it has."""

    @rule(key=KEYS, delay=st.sampled_from([0, 5, 60]))
    def create(self, key: str, delay: float) -> None:
        self.runs[key].append(self.now + timedelta(seconds=delay))
        self.due_keys.expect([key])

    @rule(key=KEYS)
    def subscribe(self, key: str) -> None:
        self.wanted[key] += 1
        self.due_keys.expect([key])

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.wanted)))
        self.wanted -= Counter([key])
        self.due_keys.forget([key])

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def advance_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: not self.claimed)
    @rule(data=st.data())
    def begin_claim(self, data: st.DataObject) -> None:
        """Claim from some of the expected keys: those that subscribers with credit want."""
        expected = sorted(self.due_keys.expected(self.now))
        if expected:
            self.claimed = frozenset(data.draw(st.sets(st.sampled_from(expected), min_size=1)))
            self.due_keys.begin_claim(self.claimed)

    @precondition(lambda self: self.claimed and self.read is None)
    @rule(credit=st.integers(1, 3))
    def read_due_runs(self, credit: int) -> None:
        for key in self.claimed:
            due = sorted(run for run in self.runs[key] if run <= self.now)[:credit]
            for run in due:
                self.runs[key].remove(run)
        self.read = {key: format_timestamp(min(self.runs[key])) for key in self.claimed if self.runs[key]}

    @precondition(lambda self: self.read is not None)
    @rule()
    def complete_claim(self) -> None:
        assert self.read is not None
        self.due_keys.complete_claim(self.claimed, self.read)
        self.claimed, self.read = frozenset(), None

    @precondition(lambda self: self.claimed)
    @rule()
    def fail_claim(self) -> None:
        self.due_keys.expect_any()
        self.claimed, self.read = frozenset(), None

    @invariant()
    def every_waiting_run_will_be_looked_for(self) -> None:
        expected = self.due_keys.expected(self.now)
        for key in set(self.wanted) - expected - self.claimed:
            for due_at in self.runs[key]:
                assert due_at > self.now, "a due run is not looked for"
                assert self.due_keys.next_due_at is not None
                assert self.due_keys.next_due_at <= due_at, "the dispatcher wakes too late"

    @invariant()
    def only_wanted_keys_are_remembered(self) -> None:
        assert set(self.due_keys.expected(self.now)) <= set(self.wanted)


DueKeysMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestDueKeys = DueKeysMachine.TestCase
