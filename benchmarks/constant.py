"""The minimum cost of an HTTP server on this stack: Starlette and uvicorn with one route that returns a constant."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

RESPONSE_BODY = b'{"data":{"taskRun":{"id":"019b8a2e-0000-7000-8000-000000000000","stateType":"COMPLETED"}}}'


async def respond(request: Request) -> Response:
    await request.body()
    return Response(RESPONSE_BODY, media_type="application/json")


if __name__ == "__main__":
    app = Starlette(routes=[Route("/graphql", respond, methods=["POST"])])
    port = int(os.environ["RUNYARD_PORT"])
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False, ws="none")
