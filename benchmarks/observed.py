"""`python -m benchmarks.observed`: the server with an additional route, `/observed`, for statistics of its process.

The statistics cost CPU time and are of no use to operators. They are therefore not part of the server itself.
"""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runyard.app import build_app
from runyard.logs import configure_logging
from runyard.server import build_server
from runyard.settings import Settings

LAG_SAMPLE_SECONDS = 0.02


class EventLoopMonitor:
    """Measures the longest delay in the server's event loop."""

    def __init__(self) -> None:
        self._max_lag = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SAMPLE_SECONDS
            await asyncio.sleep(LAG_SAMPLE_SECONDS)
            self._max_lag = max(self._max_lag, loop.time() - due)

    async def report(self, _request: Request) -> Response:
        """Return the statistics, with the longest delay since the previous request."""
        max_lag, self._max_lag = self._max_lag, 0.0
        measurements = {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "objects": len(gc.get_objects()),
            "lag_seconds": max_lag,
        }
        return Response(orjson.dumps(measurements), media_type="application/json")


def build_observed_app(settings: Settings) -> Starlette:
    """Build the application with the additional route."""
    app, monitor = build_app(settings), EventLoopMonitor()
    app.router.routes.append(Route("/observed", monitor.report, methods=["GET"]))
    original_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with original_lifespan(app):
            task = asyncio.create_task(monitor.run(), name="heart")
            yield
            task.cancel()

    app.router.lifespan_context = lifespan
    return app


def main() -> None:
    settings = Settings()  # pyright: ignore[reportCallIssue]
    configure_logging(settings.log_level, settings.log_format)
    build_server(build_observed_app(settings), settings).run()


if __name__ == "__main__":
    main()
