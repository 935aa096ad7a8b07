"""A worker in its own process that receives one started run: `python -m tests.delivery.started.worker_process URL`.

With `confirm` as the second argument, it acknowledges the lease. It then prints the id of the run, and waits forever.
"""

import asyncio
import sys

from tests.builders.queued_runs import lease_ids, run_ids
from tests.client import Client


async def work(url: str, *, confirms: bool) -> None:
    client = Client(url)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], start=True)
        deliveries = await socket.deliveries(1)
        if confirms:
            await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(deliveries))
        print(*run_ids(deliveries), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], confirms="confirm" in sys.argv))
