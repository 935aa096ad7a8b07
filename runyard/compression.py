"""Answers made smaller for clients that take them so. Small ones are left alone, and large ones are made on a thread."""

import asyncio
import gzip
from functools import lru_cache

from starlette.requests import Request

from runyard.http_requests import LONGEST_KEPT_HEADER, MOST_KEPT_HEADERS, header

LEVEL = 1
"""zlib's fastest: twice the effort takes another tenth off."""

ON_THREAD_BYTES = 64 * 1024
"""From here on compressing takes longer than a hop to a thread."""


async def compressed(request: Request, body: bytes, above_bytes: int, headers: dict[str, str]) -> bytes:
    """The body as it is to be sent; `headers` are told what was done to it."""
    if len(body) <= above_bytes:
        return body
    headers["Vary"] = f"{headers['Vary']}, Accept-Encoding" if "Vary" in headers else "Accept-Encoding"
    if not takes_gzip(",".join(header(request, b"accept-encoding"))):
        return body
    headers["Content-Encoding"] = "gzip"
    if len(body) < ON_THREAD_BYTES:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a header takes gzip, by name or by the star."""
    is_kept = len(accept_encoding) <= LONGEST_KEPT_HEADER
    return _takes_gzip(accept_encoding) if is_kept else _takes_gzip.__wrapped__(accept_encoding)


@lru_cache(MOST_KEPT_HEADERS)
def _takes_gzip(accept_encoding: str) -> bool:
    weights: dict[str, float] = {}
    for each in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0
    return weights.get("gzip", weights.get("*", 0)) > 0
