"""Checks the address that a server is about to listen on, before it opens the database."""

import errno
import os
import socket


class AddressUnusable(Exception):
    """The server cannot listen on its address."""


def check_address(host: str, port: int) -> None:
    """Raise AddressUnusable when no server can listen on this address now. Port 0 always passes.

    A name can have several addresses. Those that this machine does not have are ignored if it has another one. Another
    program can take the port afterwards; the server then fails when it starts to listen.
    """
    if port == 0:
        return
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressUnusable(
            f"The host {host!r} is unknown: {error.strerror}. Set --host or RUNYARD_HOST to an address of this machine."
        ) from None
    errors = {address: _bind(family, address) for family, _, _, _, address in found}
    missing = [each for each in errors.values() if each is not None and each.errno == errno.EADDRNOTAVAIL]
    for address, error in errors.items():
        if error is not None and (error not in missing or len(missing) == len(errors)):
            raise AddressUnusable(_describe(str(address[0]), port, error))


def _bind(family: int, address: tuple[object, ...]) -> OSError | None:
    """Bind to the address for a moment, and return the error if that fails.

    Does not listen: a client would be connected, and then disconnected.
    """
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                # As asyncio does: connections that a stopped server has left behind do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            probe.bind(address)
    except OSError as error:
        # A machine without this family of addresses does not have the address.
        return OSError(errno.EADDRNOTAVAIL, str(error)) if error.errno == errno.EAFNOSUPPORT else error
    return None


def _describe(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Another program listens on {address} port {port}. Stop it, or set another port with --port or RUNYARD_PORT."
    reason = os.strerror(error.errno) if error.errno else str(error)
    return (
        f"Cannot listen on {address} port {port}: {reason}. Set another address with --host and --port, or with "
        "RUNYARD_HOST and RUNYARD_PORT."
    )
