"""What operators and their machines ask: does the process live, and may it be sent requests."""

import logging

import orjson
from starlette.requests import Request
from starlette.responses import Response

from resolvers.storage import DatabaseUnavailable
from runyard.services import Life

log = logging.getLogger("runyard.http.health")


async def healthz(_request: Request) -> Response:
    """200 while the process lives."""
    return _answer(200, "alive")


async def readyz(request: Request) -> Response:
    """200 while requests can be served: the database is reached, its migrations are current, and no stop is under way."""
    life: Life = request.app.state.life
    if life.is_stopping:
        return _answer(503, "stopping")
    try:
        is_current = await life.database.is_current()
    except DatabaseUnavailable as error:
        log.warning("Not ready: %s", error)
        return _answer(503, "the database is away")
    return _answer(200, "ready") if is_current else _answer(503, "the database's migrations are not current")


def _answer(status: int, word: str) -> Response:
    return Response(orjson.dumps({"status": word}), status, {"Cache-Control": "no-store"}, "application/json")
