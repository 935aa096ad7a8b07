"""The requests of a worker for chaos tests. Each request and each response is recorded in the journal of the worker."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import uuid4

from tests.chaos.evidence import Journal
from tests.chaos.requests import TIMEOUT_SECONDS, OutcomeUnknown, ReplicaClient

KEYS = ["a", "b", "c", "d", "e"]
"""The task keys of all runs."""


@dataclass(frozen=True, slots=True)
class Report:
    """A state to report. Repeating the report is safe, because it keeps its transition id."""

    run: str
    lease: str
    type: str
    transition: str

    @classmethod
    def of(cls, run: dict[str, Any], lease: str, type: str) -> "Report":
        return cls(run["id"], lease, type, str(uuid4()))

    @property
    def identity(self) -> dict[str, str]:
        return {"run": self.run, "lease": self.lease, "kind": self.type, "transition": self.transition}

    @property
    def state(self) -> dict[str, Any]:
        return {"type": self.type, "details": {"transitionId": self.transition}}


class LeaseRequests:
    """Sends the requests of one worker to random servers."""

    def __init__(self, name: str, rng: Random, lease_seconds: float, journal: Journal, urls: Sequence[str]) -> None:
        self.client = ReplicaClient(urls, rng, journal)
        self.lease_seconds = lease_seconds
        self._name = name
        self._rng = rng
        self._journal = journal
        self._claiming: asyncio.Task[Any] | None = None

    def note_delivery(self, delivery: dict[str, Any], *, is_started: bool) -> None:
        run = delivery["taskRun"]
        self._journal.note(
            "claim",
            at=time.time(),
            worker=self._name,
            run=run["id"],
            lease=delivery["leaseId"],
            attempt=delivery["attempt"],
            is_started=is_started,
            state_type=run["stateType"],
            run_count=run["runCount"],
        )

    async def pause(self) -> None:
        """Wait for a short random time before a request is repeated."""
        await asyncio.sleep(self._rng.uniform(0.02, 0.3))

    async def propose(self, run: dict[str, Any], lease: str, type: str) -> str:
        """Propose the state until there is a response, and return its status."""
        report = Report.of(run, lease, type)
        while True:
            sent_at = time.time()
            self._journal.note("attempt", sent_at=sent_at, **report.identity)
            try:
                result = await self.client.execute("SetTaskRunState", id=report.run, leaseId=lease, state=report.state)
            except OutcomeUnknown:
                await self.pause()
                continue
            self._note_verdict(sent_at, result["status"], state_created=result["stateCreated"], **report.identity)
            return result["status"]

    async def change_leases(
        self,
        operation: str,
        kind: str,
        leases: Mapping[str, str],
        *,
        attempts: int = 5,
        url: str | None = None,
        **variables: Any,
    ) -> None:
        """Execute an operation on leases until there is a response, at most `attempts` times. `leases`: run ids by lease."""
        for _ in range(attempts):
            sent_at = time.time()
            self._note_lease_attempts(sent_at, kind, leases)
            try:
                payload = await self.client.execute(operation, url=url, leaseIds=list(leases), **variables)
            except OutcomeUnknown:
                await self.pause()
                continue
            self._note_lease_verdicts(sent_at, kind, leases, payload)
            return

    async def claim_started(self, limit: int, wait_seconds: float) -> list[dict[str, Any]]:
        """Claim runs with `start` and return the deliveries. Raises OutcomeUnknown if there is no response."""
        payload = await self._execute_claim(
            "ClaimTaskRuns",
            timeout_seconds=wait_seconds + TIMEOUT_SECONDS,
            taskKeys=KEYS,
            limit=limit,
            leaseSeconds=self.lease_seconds,
            waitSeconds=wait_seconds,
            workerName=self._name,
            start=True,
        )
        for delivery in payload["deliveries"]:
            self.note_delivery(delivery, is_started=True)
        return payload["deliveries"]

    async def exchange(self, reports: Sequence[Report], leases: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """Report, renew these leases and claim up to `limit` runs with `start`, in one request. Return the deliveries.

        `leases`: run ids by lease. Raises OutcomeUnknown if there is no response; repeating the reports is safe.
        """
        sent_at, leases = time.time(), dict(leases)
        for report in reports:
            self._journal.note("attempt", sent_at=sent_at, **report.identity)
        self._note_lease_attempts(sent_at, "RENEW", leases)
        claim = {
            "taskKeys": KEYS,
            "limit": limit,
            "leaseSeconds": self.lease_seconds,
            "workerName": self._name,
            "start": True,
        }
        payload = await self._execute_claim(
            "ExchangeTaskRuns",
            reports=[{"taskRunId": each.run, "leaseId": each.lease, "state": each.state} for each in reports],
            renew=list(leases),
            renewLeaseSeconds=self.lease_seconds,
            claim=claim if limit else None,
        )
        for report, each in zip(reports, payload["results"], strict=True):
            if each["error"] is not None:
                self._journal.note("fault", message=f"A report of an exchange failed with {each['error']}")
                continue
            result = each["result"]
            self._note_verdict(sent_at, result["status"], state_created=result["stateCreated"], **report.identity)
        self._note_lease_verdicts(sent_at, "RENEW", leases, payload)
        for delivery in payload["deliveries"]:
            self.note_delivery(delivery, is_started=True)
        return payload["deliveries"]

    def disconnect(self) -> None:
        """Disconnect from the server while it processes a claim or an exchange."""
        if self._claiming is not None:
            self._claiming.cancel()

    async def _execute_claim(self, operation: str, **variables: Any) -> Any:
        self._claiming = asyncio.create_task(self.client.execute(operation, **variables))
        await asyncio.wait([self._claiming])
        if self._claiming.cancelled():
            raise OutcomeUnknown
        return self._claiming.result()

    def _note_lease_attempts(self, sent_at: float, kind: str, leases: Mapping[str, str]) -> None:
        for lease, run in leases.items():
            self._journal.note("attempt", sent_at=sent_at, run=run, lease=lease, kind=kind)

    def _note_lease_verdicts(
        self, sent_at: float, kind: str, leases: Mapping[str, str], payload: dict[str, Any]
    ) -> None:
        for each in payload["leases"]:
            lease = each["leaseId"]
            self._note_verdict(sent_at, each["status"], state_created=False, run=leases[lease], lease=lease, kind=kind)

    def _note_verdict(self, sent_at: float, status: str, *, state_created: bool, **identity: str) -> None:
        self._journal.note(
            "verdict",
            sent_at=sent_at,
            received_at=time.time(),
            status=status,
            state_created=state_created,
            **identity,
        )
