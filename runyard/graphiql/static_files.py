from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from runyard.graphiql.bundle import BuiltFile, read_bundle

HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    # A worker obeys the policy of its own file, not the page's.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'",
    "Vary": "Accept-Encoding",
}


def graphiql_static() -> ASGIApp:
    """The built files, to be mounted at one path; for any other name, 404.

    Names are looked up among those that the build wrote down and never become paths. Files go out as they are stored,
    compressed; a client that does not take gzip gets them decompressed.
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
    """Differs between the two encodings, since their bytes do."""
    return f'"{file.sha256[:32]}{"-gzip" if is_gzip else ""}"'


def accepts_gzip(accept_encoding: str) -> bool:
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        weights[coding.strip()] = read_weight(parameter)
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def read_weight(parameter: str) -> float:
    """The number in `q=0.5`; 1 without one, 0 for what cannot be read."""
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
