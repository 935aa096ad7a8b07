"""Large sweeps: many leases that expire at once are reclaimed in batches."""

import asyncio
import logging

import pytest

from tests.builders.queued_runs import create_many, run_ids
from tests.client import TIMEOUT_SECONDS
from tests.serving import RunningServer

COUNT = 1001


async def test_expired_leases_are_reclaimed_in_batches_of_five_hundred_without_losses(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = server.client
    ids = await create_many(client, 1000) + await create_many(client, COUNT - 1000)

    async def claim_all() -> list[dict[str, object]]:
        deliveries = []
        while len(deliveries) < COUNT:
            found = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=500))["deliveries"]
            assert found
            deliveries += found
        return deliveries

    first = await claim_all()
    assert (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=500))["deliveries"] == []
    with caplog.at_level(logging.INFO, "runyard.queue"):
        server.clock.advance(30)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while server.services.dispatcher.metrics.recovered.total() < COUNT:
                await client.http.get("/healthz")
    again = await claim_all()

    swept = [record.args for record in caplog.records if record.msg.startswith("Recovered")]
    assert swept == [(500,), (500,), (1,)]
    assert sorted(run_ids(first)) == sorted(run_ids(again)) == sorted(ids)
    assert {each["attempt"] for each in again} == {2}
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["SCHEDULED"]}}}) == COUNT
