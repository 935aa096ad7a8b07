"""However many leases run out at once, they end in transactions of a size that others can wait for."""

import asyncio
import logging

import pytest

from tests.builders.queued_runs import create_many, run_ids
from tests.client import PATIENCE
from tests.serving import Serving

COUNT = 1001


async def test_five_hundred_at_a_time_are_taken_back_and_none_is_lost(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    client = server.client
    ids = await create_many(client, 1000) + await create_many(client, COUNT - 1000)

    async def claim_all() -> list[dict[str, object]]:
        deliveries = []
        while len(deliveries) < COUNT:
            found = await client.ask("ClaimTaskRuns", taskKeys=["t"], limit=500)
            assert found
            deliveries += found
        return deliveries

    first = await claim_all()
    assert await client.ask("ClaimTaskRuns", taskKeys=["t"], limit=500) == []
    with caplog.at_level(logging.INFO, "runyard.queue"):
        server.clock.advance(30)
        async with asyncio.timeout(PATIENCE):
            while server.life.dispatcher.counts.taken_back.total() < COUNT:
                await client.http.get("/healthz")
    again = await claim_all()

    swept = [record.args for record in caplog.records if record.msg.startswith("Took back")]
    assert swept == [(500,), (500,), (1,)]
    assert sorted(run_ids(first)) == sorted(run_ids(again)) == sorted(ids)
    assert {each["attempt"] for each in again} == {2}
    assert await client.ask("CountTaskRuns", filter={"state": {"type": {"any": ["SCHEDULED"]}}}) == COUNT
