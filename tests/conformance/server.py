"""A server for the replay, in this process on a real port, with the system clock because traces wait in real time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from db.runtime.clock import SystemClock
from runyard.app import build_app
from runyard.server import build_server
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import ServerInLoop, settings_for


@asynccontextmanager
async def run_realtime_server(new_database: Callable[[], str], starting: asyncio.Lock) -> AsyncIterator[Client]:
    """Run a server on a new database and yield a client.

    All timestamps are of this machine's clock, with which the replay measures when a step begins and ends.
    The lock `starting` is held during startup because a process can migrate only one database at a time. The flow run
    sweeper is stopped: the recorded server ran without its background services, and a trace may take longer than a sweep.
    """
    url = await asyncio.to_thread(new_database)
    settings = settings_for(Path(), database_url=url)
    app = build_app(settings, SystemClock())
    server = ServerInLoop(build_server(app, settings))
    async with starting:
        task = asyncio.create_task(server.serve())
        await asyncio.wait_for(server.ready.wait(), TIMEOUT_SECONDS)
    app.state.services.flow_run_task.cancel()
    client = Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    try:
        yield client
    finally:
        await client.http.aclose()
        server.stop_requested.set()
        await asyncio.wait_for(task, TIMEOUT_SECONDS)
