"""The exchange: the reports, renewals and claims of workers, in one transaction.

Requests that arrive together share a transaction: the reports of all, then the renewals of all, then one claim for all.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import cast

from db.connection import Connection
from db.database import Database
from db.errors import RowsLocked
from db.runtime.memory_budget import ReadTooLarge
from db.statements import task_runs
from resolvers.delivery.claim import Claim, ClaimRequest, ClaimTooLarge, Delivery, Demand, claim_due_runs
from resolvers.delivery.dispatcher import Dispatcher
from resolvers.delivery.leases import LeaseResult, Renewal, renew_all_leases, renew_leases
from resolvers.queue.capacity import QueueCapacity
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult, set_task_run_states

ExchangeItem = StateChange | Renewal | ClaimRequest
"""One report, one renewal or the claim of an exchange."""

ItemResult = TaskRunTransitionResult | LeaseResult | Claim | Exception
"""Result of an item: of a report, of a renewal, of a claim, or the refusal of a report."""

ExchangeOperation = Callable[[Connection, Sequence[ExchangeItem]], list[ItemResult]]
"""The write operation `exchange_items`, with the limits of the queues."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a worker."""

    reports: Sequence[StateChange]
    renewals: Sequence[Renewal]
    demand: Demand | None
    """What to claim; None to claim nothing. The dispatcher sets its number."""


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """The results of an exchange, each list in the order of the items."""

    reports: list[TaskRunTransitionResult | Exception]
    leases: list[LeaseResult]
    deliveries: list[Delivery]


async def execute_exchange(
    database: Database, dispatcher: Dispatcher, operation: ExchangeOperation, request: Exchange
) -> ExchangeResult:
    """Set the reported states, renew the leases, then claim due runs, in one transaction. Does not wait for due runs.

    A server that is stopping claims nothing. Cancelling the call does not cancel the transaction; runs that it claims
    are then released. Raises RowsLocked when another transaction has locked a row of the request. The leases whose rows
    are not locked are renewed even then.
    """
    changes: list[ExchangeItem] = [*request.reports, *request.renewals]

    async def write(claim: ClaimRequest | None) -> tuple[Claim | None, list[ItemResult]]:
        items = changes if claim is None else [*changes, claim]
        try:
            results = await database.write_all(operation, items) if items else []
        except RowsLocked:
            if request.renewals:
                await renew_all_leases(database, request.renewals)
            raise
        return (None, results) if claim is None else (cast("Claim", results.pop()), results)

    if request.demand is None:
        deliveries, (_, results) = list[Delivery](), await write(None)
    else:
        deliveries, results = await dispatcher.claim_within(write, request.demand)
    count = len(request.reports)
    reports = cast("list[TaskRunTransitionResult | Exception]", results[:count])
    return ExchangeResult(reports, cast("list[LeaseResult]", results[count:]), deliveries)


def exchange_items(
    connection: Connection, items: Sequence[ExchangeItem], capacity: QueueCapacity | None = None
) -> list[ItemResult]:
    """Set all reported states, then renew all leases, then claim for all claims together. Return a result for each item.

    Costs a constant number of statements unless a run is reported twice. The result of a report is as that of
    `set_task_run_states`, with the run as the claim leaves it, and that of a claim has the deliveries of its demands. Raises
    ClaimTooLarge.
    """
    reports = [each for each in items if isinstance(each, StateChange)]
    renewals = [each for each in items if isinstance(each, Renewal)]
    claims = [each for each in items if isinstance(each, ClaimRequest)]
    if reports and renewals:
        # Reports lock limits, before which the entries of renewals must be locked. The claim waits for no lock.
        task_runs.lock_task_runs(connection, [each.run_id for each in reports], [each.lease_id for each in renewals])
    reported = set_task_run_states(connection, reports, capacity) if reports else []
    renewed = renew_leases(connection, renewals) if renewals else []
    claimed = list[Claim]()
    if claims:
        try:
            claimed = _claim_together(connection, claims)
            reported = _with_changed_runs(connection, reported, claimed[0].changed_ids)
        except ReadTooLarge as error:
            raise ClaimTooLarge(error.limit) from error
    results: dict[type[ExchangeItem], Iterator[ItemResult]] = {
        StateChange: iter(reported),
        Renewal: iter(renewed),
        ClaimRequest: iter(claimed),
    }
    return [next(results[type(item)]) for item in items]


def _with_changed_runs(
    connection: Connection, reported: list[TaskRunTransitionResult | Exception], changed_ids: Set[str]
) -> list[TaskRunTransitionResult | Exception]:
    """Read the reported runs that the claim has changed again: each result has its run as it is after the transaction."""
    stale = {each.task_run.id for each in reported if isinstance(each, TaskRunTransitionResult)} & changed_ids
    if not stale:
        return reported
    runs = task_runs.task_runs_by_id(connection, sorted(stale))
    return [
        replace(each, task_run=runs.get(each.task_run.id, each.task_run))
        if isinstance(each, TaskRunTransitionResult)
        else each
        for each in reported
    ]


def _claim_together(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim]:
    """Claim for all requests at once. Return a claim for each, with the deliveries of its own demands."""
    (claim,) = claim_due_runs(connection, [_merge(requests)])
    if isinstance(claim, Exception):
        raise claim
    return [_share_of(request, claim, is_first=request is requests[0]) for request in requests]


def _merge(requests: Sequence[ClaimRequest]) -> ClaimRequest:
    """Combine requests into one. A key that comes early in one of the orders comes early in the combined order."""
    orders = zip_longest(*(each.key_order for each in requests))
    retries = [each.consecutive_retries for each in requests]
    return replace(
        requests[0],
        demands=[demand for each in requests for demand in each.demands],
        key_order=list(dict.fromkeys(key for key in chain.from_iterable(orders) if key is not None)),
        max_runs=min(each.max_runs for each in requests),
        consecutive_retries={key: count for each in retries for key, count in each.items()},
    )


def _share_of(request: ClaimRequest, claim: Claim, *, is_first: bool) -> Claim:
    """Return the claim with the deliveries of the request. The first share has the numbers of undelivered runs, too."""
    if not is_first:
        claim = replace(claim, held_back=0, expired=0)
    numbers = {demand.subscriber for demand in request.demands}
    return replace(claim, deliveries=[each for each in claim.deliveries if each.subscriber in numbers])
