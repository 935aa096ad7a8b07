"""A reverse proxy that serves a server below a path prefix, as nginx does with `location /runyard/`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

PREFIX = "/runyard"
HEAD_END = b"\r\n\r\n"


@asynccontextmanager
async def prefix_proxy(server_url: str, *, forwards_upgrade: bool = True) -> AsyncIterator[str]:
    """Yield the URL at which the proxy serves the server, without a trailing slash.

    Paths outside the prefix are 404. The proxy keeps `Host`, as browsers require of it, and opens a connection for each
    request. Without `forwards_upgrade` it drops the headers that start a WebSocket, as nginx does by default.
    """
    server_address = urlsplit(server_url)
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve_request(reader, writer, server_address.hostname, server_address.port, forwards_upgrade)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a browser opens connections that it does not use
        finally:
            writer.close()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(serve(reader, writer))
        handlers.add(handler)
        handler.add_done_callback(handlers.discard)

    proxy = await asyncio.start_server(start, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}{PREFIX}"
    finally:
        proxy.close()
        for handler in tuple(handlers):
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def _serve_request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str | None,
    port: int | None,
    forwards_upgrade: bool,
) -> None:
    head = await reader.readuntil(HEAD_END)
    first_line, *headers = head.removesuffix(HEAD_END).split(b"\r\n")
    method, path, version = first_line.split(b" ")
    if not path.startswith(PREFIX.encode() + b"/"):
        writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    is_upgrade = forwards_upgrade and any(header.lower().startswith(b"upgrade:") for header in headers)
    if not is_upgrade:
        headers = [each for each in headers if not each.lower().startswith((b"connection:", b"upgrade:"))]
        headers.append(b"Connection: close")
    first_line = b" ".join([method, path.removeprefix(PREFIX.encode()), version])
    server_reader, server_writer = await asyncio.open_connection(host, port)
    server_writer.write(b"\r\n".join([first_line, *headers]) + HEAD_END)
    copies = [asyncio.create_task(_copy(reader, server_writer)), asyncio.create_task(_copy(server_reader, writer))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        server_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
