"""Compression of responses with gzip. Small responses are sent uncompressed; large ones are compressed in a thread."""

import asyncio
import gzip

from starlette.requests import Request

from runyard.http.requests import cached_header_parser, header_values

COMPRESSION_LEVEL = 1
"""The fastest level of zlib. Twice the CPU time reduces the size by only another tenth."""

THREAD_MIN_BYTES = 64 * 1024
"""Size from which compression takes longer than the switch to a thread."""


async def compress_body(request: Request, body: bytes, threshold_bytes: int, headers: dict[str, str]) -> bytes:
    """Return the body, compressed if the client accepts gzip and the body exceeds the threshold. Updates `headers`."""
    if len(body) <= threshold_bytes:
        return body
    headers["Vary"] = f"{headers['Vary']}, Accept-Encoding" if "Vary" in headers else "Accept-Encoding"
    if not accepts_gzip(",".join(header_values(request, b"accept-encoding"))):
        return body
    headers["Content-Encoding"] = "gzip"
    if len(body) < THREAD_MIN_BYTES:
        return gzip.compress(body, COMPRESSION_LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, COMPRESSION_LEVEL, mtime=0)


@cached_header_parser
def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip, by name or by `*`."""
    weights: dict[str, float] = {}
    for each in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0
    return weights.get("gzip", weights.get("*", 0)) > 0
