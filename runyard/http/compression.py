"""Answers made smaller for clients that take them so. Small ones are left alone, and large ones are made on a thread."""

import asyncio
import gzip

from starlette.requests import Request

from runyard.http.requests import header, read_once

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


@read_once
def takes_gzip(accept_encoding: str) -> bool:
    """Whether a header takes gzip, by name or by the star."""
    weights: dict[str, float] = {}
    for each in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0
    return weights.get("gzip", weights.get("*", 0)) > 0
