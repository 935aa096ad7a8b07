"""Slots that runs could have taken and did not take: waiting runs are woken for them, one for each slot.

On SQLite only, because no step depends on the kind of database.
"""

from collections.abc import Sequence
from dataclasses import replace

from db.connection import SQLiteConnection
from db.enums import StateType
from db.runtime.timestamps import seconds_after
from db.statements.queue import queue_entries_by_run
from resolvers.bulk_changes.pages import BulkChange
from resolvers.bulk_changes.task_runs import change_task_runs
from resolvers.bulk_changes.verbs import Cancellation
from resolvers.concurrency_limits import LimitSetting, set_limits
from resolvers.delivery.claim import Claim, ClaimRequest, Delivery, claim_due_runs
from resolvers.delivery.exchange import exchange_items
from resolvers.queue.capacity import QueueCapacity
from resolvers.task_runs import NewTaskRun
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.rows import claim, claim_request, make_task_runs
from tests.builders.transitions import propose

CAPACITY = QueueCapacity(max_scheduled=1000, max_retry=1000, is_shared=False)


def tagged_runs(count: int, *tags: str, expires_at: str | None = None) -> list[NewTaskRun]:
    return [
        NewTaskRun(
            "t", f"{tags} {number} {expires_at}", tags=tags, state=propose(StateType.SCHEDULED), expires_at=expires_at
        )
        for number in range(count)
    ]


def start(connection: SQLiteConnection, credit: int) -> list[Delivery]:
    request = claim_request(credit)
    (claimed,) = claim_due_runs(
        connection, [replace(request, demands=[replace(each, starts=True) for each in request.demands])]
    )
    assert isinstance(claimed, Claim)
    return claimed.deliveries


def complete(connection: SQLiteConnection, deliveries: Sequence[Delivery]) -> None:
    completed = [
        StateChange(each.task_run.id, propose(StateType.COMPLETED), lease_id=each.lease_id) for each in deliveries
    ]
    assert not any(isinstance(each, Exception) for each in set_task_run_states(connection, completed))


def waiting(connection: SQLiteConnection, ids: Sequence[str]) -> list[str]:
    """Return those of these runs that wait for a slot."""
    return [id for id, entry in queue_entries_by_run(connection, ids).items() if entry.waits_for_slot]


def test_a_run_is_woken_for_each_of_the_slots_of_runs_that_are_cancelled(connection: SQLiteConnection) -> None:
    set_limits(connection, [LimitSetting("gpu", 3)])
    ids = make_task_runs(connection, tagged_runs(9, "gpu"))
    complete(connection, start(connection, 9))
    woken = sorted(set(queue_entries_by_run(connection, ids)) - set(waiting(connection, ids)))
    before = len(waiting(connection, ids))

    change_task_runs(connection, [BulkChange(Cancellation(), {"id": {"in": woken}}, 100)], CAPACITY)

    assert (len(woken), before, len(waiting(connection, ids))) == (3, 3, 0)


def test_a_run_is_woken_for_each_free_slot_of_runs_that_wait_for_another_tag(connection: SQLiteConnection) -> None:
    set_limits(connection, [LimitSetting("a", 3), LimitSetting("b", 1)])
    make_task_runs(connection, tagged_runs(1, "b"))
    start(connection, 1)
    make_task_runs(connection, tagged_runs(3, "a"))
    running = start(connection, 3)
    ids = make_task_runs(connection, [*tagged_runs(3, "a", "b"), *tagged_runs(3, "c", "a")])
    start(connection, 10)
    complete(connection, running)

    # The runs that are woken first have both tags, and now wait for the other one.
    assert start(connection, 10) == []
    assert len(start(connection, 10)) == 3
    assert len(waiting(connection, ids)) == 3


def test_a_run_that_expires_in_a_claim_passes_its_slot_on(connection: SQLiteConnection) -> None:
    set_limits(connection, [LimitSetting("gpu", 1)])
    make_task_runs(connection, tagged_runs(1, "gpu"))
    running = start(connection, 1)
    expiring = tagged_runs(1, "gpu", expires_at=seconds_after(connection.now, 3))
    ids = make_task_runs(connection, [*expiring, *tagged_runs(2, "gpu")[1:]])
    claim(connection, 5)
    complete(connection, running)
    before = waiting(connection, ids)
    connection.now = seconds_after(connection.now, 5)

    expired = claim(connection, 5).expired

    assert (before, expired, waiting(connection, ids)) == ([ids[1]], 1, [])


def test_an_expired_run_is_counted_once_when_several_exchanges_share_a_claim(connection: SQLiteConnection) -> None:
    make_task_runs(connection, tagged_runs(1, expires_at=seconds_after(connection.now, 3)))
    connection.now = seconds_after(connection.now, 5)
    requests: list[ClaimRequest] = [
        replace(each, demands=[replace(demand, subscriber=number) for demand in each.demands])
        for number, each in enumerate([claim_request(1)] * 3)
    ]

    results = exchange_items(connection, requests)

    assert [each.expired for each in results if isinstance(each, Claim)] == [1, 0, 0]
