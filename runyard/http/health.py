"""Health checks: whether the process is alive, and whether it is ready for requests."""

import logging

import orjson
from starlette.requests import Request
from starlette.responses import Response

from db.errors import DatabaseUnavailable
from runyard.services import Services

log = logging.getLogger("runyard.http.health")


async def healthz(_request: Request) -> Response:
    """Respond with 200 while the process is alive."""
    return _status_response(200, "alive")


async def readyz(request: Request) -> Response:
    """Respond with 200 while the server is ready for requests, otherwise with 503.

    It is ready when the database is available, its migrations are current, and the server is not stopping.
    """
    services: Services = request.app.state.services
    if services.is_stopping:
        return _status_response(503, "stopping")
    try:
        is_current = await services.database.is_current()
    except DatabaseUnavailable as error:
        log.warning("Not ready: %s", error)
        return _status_response(503, "the database is unavailable")
    return (
        _status_response(200, "ready")
        if is_current
        else _status_response(503, "the database's migrations are not current")
    )


def _status_response(status: int, status_text: str) -> Response:
    return Response(orjson.dumps({"status": status_text}), status, {"Cache-Control": "no-store"}, "application/json")
