"""`python -m benchmarks.observed`: the server, which also tells at `/observed` how its process is doing.

No operator needs this, and it costs a little, so it is no part of the server itself.
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
from runyard.logs import set_up_logs
from runyard.server import build_server
from runyard.settings import Settings

BEAT_SECONDS = 0.02


class Heart:
    """Beats in the server's own event loop, and knows the longest it had to wait."""

    def __init__(self) -> None:
        self._worst = 0.0

    async def beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._worst = max(self._worst, loop.time() - due)

    async def tell(self, _request: Request) -> Response:
        """The figures, the wait since they were last asked for among them."""
        worst, self._worst = self._worst, 0.0
        figures = {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "objects": len(gc.get_objects()),
            "lag_seconds": worst,
        }
        return Response(orjson.dumps(figures), media_type="application/json")


def observed_app(settings: Settings) -> Starlette:
    """The application with one route more."""
    app, heart = build_app(settings), Heart()
    app.router.routes.append(Route("/observed", heart.tell, methods=["GET"]))
    started = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with started(app):
            beating = asyncio.create_task(heart.beat(), name="heart")
            yield
            beating.cancel()

    app.router.lifespan_context = lifespan
    return app


def main() -> None:
    settings = Settings()  # pyright: ignore[reportCallIssue]
    set_up_logs(settings.log_level, settings.log_format)
    build_server(observed_app(settings), settings).run()


if __name__ == "__main__":
    main()
