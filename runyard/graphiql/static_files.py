"""Serving of the built files of the GraphiQL page, with permanent caching and content negotiation."""

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from runyard.graphiql.bundle import BuiltFile, read_bundle

HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    # A worker is subject to the policy of its own file, not to that of the page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'",
    "Vary": "Accept-Encoding",
}


def graphiql_static() -> ASGIApp:
    """Return an application that serves the built files by name, and 404 for other names.

    Names are looked up in the manifest and never used as paths. Files are sent compressed, as stored. Clients that do
    not accept gzip receive them decompressed.
    """
    return Router([Route("/{name}", serve_file)], redirect_slashes=False)


async def serve_file(request: Request) -> Response:
    file = read_bundle().files.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    is_gzip = file.is_gzipped and accepts_gzip(request.headers.get("accept-encoding", ""))
    headers = {**HEADERS, "ETag": entity_tag(file, is_gzip)}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if is_gzip:
        headers["Content-Encoding"] = "gzip"
    body = await run_in_threadpool(file.read if is_gzip else file.read_plain)
    return Response(body, headers=headers, media_type=file.media_type)


def entity_tag(file: BuiltFile, is_gzip: bool) -> str:
    """Return the ETag of a file. It differs between the two encodings, because their bytes differ."""
    return f'"{file.sha256[:32]}{"-gzip" if is_gzip else ""}"'


def accepts_gzip(accept_encoding: str) -> bool:
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        weights[coding.strip()] = read_weight(parameter)
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def read_weight(parameter: str) -> float:
    """Return the weight in `q=0.5`; 1 without a weight, 0 when it is invalid."""
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
