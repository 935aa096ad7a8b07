"""Statement counts of exchanges on SQLite: constant for any number of items, and of requests that share a transaction."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from db.connection import SQLiteConnection
from db.enums import StateType
from db.runtime.timestamps import seconds_after
from resolvers.delivery.claim import Claim, ClaimRequest
from resolvers.delivery.exchange import ExchangeItem, exchange_items
from resolvers.delivery.leases import LeaseResult, LeaseStatus, Renewal
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.task_runs import NewTaskRun
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult
from tests.builders.rows import claim, claim_request, make_task_runs, new_task_runs
from tests.builders.transitions import propose

SIZES = pytest.mark.parametrize("size", [1, 100])


def claims(*credits: int) -> list[ClaimRequest]:
    """Return the claims of several requests: each has a demand with a number of its own."""
    requests = [claim_request(credit) for credit in credits]
    return [
        replace(each, demands=[replace(demand, subscriber=number) for demand in each.demands])
        for number, each in enumerate(requests, start=1)
    ]


def count_statements(connection: SQLiteConnection, items: Sequence[ExchangeItem]) -> int:
    before = connection.statements
    results = exchange_items(connection, items)
    assert not any(isinstance(each, Exception) for each in results)
    return connection.statements - before


@SIZES
def test_an_exchange_takes_the_statements_of_its_parts(connection: SQLiteConnection, size: int) -> None:
    make_task_runs(connection, new_task_runs(4 * size + 1, StateType.SCHEDULED))
    of_claim = count_statements(connection, claims(size))
    deliveries = claim(connection, 2 * size).deliveries
    reports = [
        StateChange(each.task_run.id, propose(StateType.RUNNING), lease_id=each.lease_id) for each in deliveries[:size]
    ]
    renewals = [Renewal(each.lease_id, 60.0) for each in deliveries[size:]]

    # Four for the reports, two for the renewals.
    assert count_statements(connection, [*reports, *renewals, *claims(size)]) == 4 + 2 + of_claim


@pytest.mark.parametrize("requests", [2, 10])
def test_the_claims_of_several_requests_take_the_statements_of_one(connection: SQLiteConnection, requests: int) -> None:
    make_task_runs(connection, new_task_runs(100, StateType.SCHEDULED))
    of_one = count_statements(connection, claims(5))

    assert count_statements(connection, claims(*[5] * requests)) == of_one


def test_the_run_of_a_report_is_as_its_expiry_leaves_it(connection: SQLiteConnection) -> None:
    expires_at = seconds_after(connection.now, 1)
    (id,) = make_task_runs(connection, [NewTaskRun("t", "1", parameters="{}", expires_at=expires_at)])
    connection.now = expires_at

    reported, _ = exchange_items(connection, [StateChange(id, propose(StateType.SCHEDULED)), *claims(1)])

    assert isinstance(reported, TaskRunTransitionResult)
    assert (reported.task_run.state_name, reported.task_run.parameters) == ("Expired", "{}")


def test_each_item_of_several_requests_gets_its_own_result(connection: SQLiteConnection) -> None:
    make_task_runs(connection, new_task_runs(9, StateType.SCHEDULED))
    first, second, third = claim(connection, 3).deliveries
    small, large = claims(1, 5)
    report = StateChange(first.task_run.id, propose(StateType.RUNNING), lease_id=first.lease_id)
    other_report = StateChange(third.task_run.id, propose(StateType.COMPLETED), lease_id=third.lease_id)

    reported, claimed_few, renewed, also_reported, claimed_more = exchange_items(
        connection, [report, small, Renewal(second.lease_id, 90.0), other_report, large]
    )

    assert isinstance(reported, TaskRunTransitionResult)
    assert isinstance(also_reported, TaskRunTransitionResult)
    assert isinstance(renewed, LeaseResult)
    assert isinstance(claimed_few, Claim)
    assert isinstance(claimed_more, Claim)
    assert [(each.status, each.task_run.id) for each in (reported, also_reported)] == [
        (OrchestrationStatus.ACCEPT, first.task_run.id),
        (OrchestrationStatus.ACCEPT, third.task_run.id),
    ]
    assert (renewed.lease_id, renewed.status) == (second.lease_id, LeaseStatus.HELD)
    assert (len(claimed_few.deliveries), len(claimed_more.deliveries)) == (1, 5)
    claimed = claimed_few.deliveries + claimed_more.deliveries
    assert len({each.task_run.id for each in claimed} | {first.task_run.id}) == 7


def test_the_claims_of_several_requests_share_runs_that_are_few(connection: SQLiteConnection) -> None:
    make_task_runs(connection, new_task_runs(4, StateType.SCHEDULED))

    results = exchange_items(connection, claims(10, 10))

    assert [len(each.deliveries) for each in results if isinstance(each, Claim)] == [2, 2]


def test_keys_are_served_in_the_order_that_all_requests_prefer(connection: SQLiteConnection) -> None:
    for key in "abc":
        make_task_runs(connection, new_task_runs(1, StateType.SCHEDULED, task_key=key))
    first, second = claims(1, 1)
    orders = [["c", "a", "b"], ["c", "b", "a"]]
    keys = frozenset("abc")
    requests = [
        replace(each, key_order=order, demands=[replace(demand, task_keys=keys) for demand in each.demands])
        for each, order in zip((first, second), orders, strict=True)
    ]

    results = exchange_items(connection, requests)

    claimed = [each.deliveries[0].task_run.task_key for each in results if isinstance(each, Claim)]
    assert claimed == ["c", "a"]
