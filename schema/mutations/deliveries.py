"""Mutations of workers: claim task runs, acknowledge, renew and release their leases, and all of it in one request."""

from typing import Annotated

import strawberry

from resolvers.delivery import leases
from resolvers.delivery.claim import MAX_CLAIM_SIZE
from resolvers.delivery.exchange import Exchange, execute_exchange
from resolvers.delivery.leases import Release, Renewal
from resolvers.delivery.progress_reports import report_progress
from schema.context import Info
from schema.inputs.arguments import (
    CLAIM_LIMIT_DESCRIPTION,
    MAX_LEASE_SECONDS,
    MAX_WAIT_SECONDS,
    LeaseSecondsArgument,
    StartArgument,
    TaskKeysArgument,
    WorkerNameArgument,
    parse_ids,
    validate_batch_size,
    validate_count,
    validate_seconds,
    validate_task_keys,
)
from schema.inputs.mutations import ClaimInput, TaskRunStateChangeInput
from schema.inputs.progress import TaskRunProgressInput
from schema.results import ClaimedTaskRuns, ExchangeOutcome, LeaseResults, StateChangeResult
from schema.types.payloads import ExchangePayload, LeasesPayload, TaskRunsClaimPayload

RenewalSecondsArgument = Annotated[
    float,
    strawberry.argument(description="Duration of the leases from now in seconds, 1 to 86,400. Defaults to 60."),
]


@strawberry.type
class DeliveryMutations:
    @strawberry.mutation(
        graphql_type=TaskRunsClaimPayload | None,
        description=(
            "Claim due background runs of these task keys, each under a lease, without a subscription. Returns as "
            "soon as a run is due, or an empty list after `waitSeconds` or when the server stops. Runs that are "
            "not acknowledged within 30 seconds (or the server's `RUNYARD_ACKNOWLEDGE_SECONDS`) are redelivered."
        ),
    )
    async def claim_task_runs(
        self,
        info: Info,
        task_keys: TaskKeysArgument,
        limit: Annotated[
            int,
            strawberry.argument(description=CLAIM_LIMIT_DESCRIPTION),
        ] = 1,
        lease_seconds: LeaseSecondsArgument = 60,
        wait_seconds: Annotated[
            float,
            strawberry.argument(
                description=(
                    "Maximum time to wait for a due run, in seconds, 0 to 60. Defaults to 0, for runs that are due now. "
                    "When the client disconnects while it waits, runs that were claimed for it are requeued at once."
                )
            ),
        ] = 0,
        worker_name: WorkerNameArgument = None,
        start: StartArgument = False,
    ) -> ClaimedTaskRuns:
        wait_seconds = validate_seconds("waitSeconds", wait_seconds, minimum=0, maximum=MAX_WAIT_SECONDS)
        info.context.extend_deadline(wait_seconds)
        deliveries = await info.context.dispatcher.claim(
            validate_task_keys("taskKeys", task_keys),
            limit=validate_count("limit", limit, minimum=1, maximum=MAX_CLAIM_SIZE),
            lease_seconds=validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS),
            wait_seconds=wait_seconds,
            worker_name=worker_name,
            starts=start,
        )
        return ClaimedTaskRuns(deliveries)

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Acknowledge delivered task runs. An acknowledged lease no longer ends with the subscription and "
            "lasts for the requested `leaseSeconds`. The runs no longer count toward `prefetch`; setting a state "
            "with the `leaseId` has the same effects."
        ),
    )
    async def acknowledge_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        ids = parse_ids("leaseIds", lease_ids)
        return LeaseResults(await info.context.database.write_all(leases.acknowledge_leases, ids))

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Renew leases, which then expire `leaseSeconds` from now; renewing acknowledges them too. Send one "
            "request for all leases of a worker, about every third of the lease time. Check `cancelRequested` in "
            "the results."
        ),
    )
    async def renew_task_run_leases(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
        lease_seconds: RenewalSecondsArgument = 60,
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("leaseSeconds", lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS)
        renewals = [Renewal(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return LeaseResults(await leases.renew_all_leases(info.context.database, renewals))

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Release these leases and requeue their task runs. PENDING and RUNNING runs become SCHEDULED; "
            "CANCELLING runs become CANCELLED, PAUSED runs stay PAUSED, and neither are requeued. A released RUNNING "
            "does not count in `runCount`. A run whose worker has received WAIT for a concurrency slot waits for the "
            "slot, and not for `delaySeconds`."
        ),
    )
    async def release_task_runs(
        self,
        info: Info,
        lease_ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of the leases, at most 1,000.")],
        delay_seconds: Annotated[
            float,
            strawberry.argument(
                description="Delay until the task runs are due again, in seconds, 0 to 86,400. Defaults to 0."
            ),
        ] = 0,
    ) -> LeaseResults:
        validate_batch_size("leaseIds", lease_ids)
        seconds = validate_seconds("delaySeconds", delay_seconds, minimum=0, maximum=MAX_LEASE_SECONDS)
        releases = [Release(lease_id, seconds) for lease_id in parse_ids("leaseIds", lease_ids)]
        return LeaseResults(await info.context.database.write_all(leases.release_leases, releases))

    @strawberry.mutation(
        graphql_type=LeasesPayload | None,
        description=(
            "Report the progress of task runs. Each report replaces the progress of the run under its lease; "
            "`taskRunStateChanges` does not contain it. Acknowledges the leases and does not extend acknowledged ones. A "
            "report under a lost lease changes nothing."
        ),
    )
    async def report_task_run_progress(
        self,
        info: Info,
        reports: Annotated[
            list[TaskRunProgressInput],
            strawberry.argument(description="Reports, at most 1,000. Of several for one lease, the last one counts."),
        ],
    ) -> LeaseResults:
        validate_batch_size("reports", reports)
        parsed = [report.parse(f"reports.{index}") for index, report in enumerate(reports)]
        return LeaseResults(await info.context.database.write_all(report_progress, parsed))

    @strawberry.mutation(
        graphql_type=ExchangePayload | None,
        description=(
            "Report states, renew leases and claim due runs in one transaction, in this order, for a worker that does "
            "all three again and again. A slot that a report frees, and a run that it queues, are available to the claim. "
            "A report that fails has an `error` and does not affect the rest; an invalid argument changes nothing."
        ),
    )
    async def exchange_task_runs(
        self,
        info: Info,
        reports: Annotated[
            list[TaskRunStateChangeInput],
            strawberry.argument(description="Proposed states, at most 1,000, each as in `setTaskRunStates`."),
        ],
        renew: Annotated[
            list[strawberry.ID],
            strawberry.argument(
                description="Ids of the leases to renew, at most 1,000, each as in `renewTaskRunLeases`."
            ),
        ],
        renew_lease_seconds: RenewalSecondsArgument = 60,
        claim: Annotated[
            ClaimInput | None,
            strawberry.argument(
                description=(
                    "Task runs to claim, as in `claimTaskRuns`. Does not wait for due runs. Defaults to null, for no "
                    "claim. Nothing is claimed while the server stops."
                )
            ),
        ] = None,
    ) -> ExchangeOutcome:
        validate_batch_size("reports", reports)
        validate_batch_size("renew", renew)
        seconds = validate_seconds("renewLeaseSeconds", renew_lease_seconds, minimum=1, maximum=MAX_LEASE_SECONDS)
        exchange = Exchange(
            reports=[report.parse(f"reports.{index}") for index, report in enumerate(reports)],
            renewals=[Renewal(lease_id, seconds) for lease_id in parse_ids("renew", renew)],
            demand=claim and claim.parse("claim"),
        )
        result = await execute_exchange(
            info.context.database, info.context.dispatcher, info.context.writes.exchange_items, exchange
        )
        results = StateChangeResult.from_results(exchange.reports, result.reports, "reports")
        return ExchangeOutcome(results, result.leases, result.deliveries)
