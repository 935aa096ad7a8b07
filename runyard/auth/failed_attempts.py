"""Limit on invalid tokens by client address, because each lookup costs a read from the database."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

log = logging.getLogger("runyard.auth.authenticator")

MAX_ADDRESSES = 10_000
"""Limit on the number of addresses kept in memory. Beyond it, the least recently seen one is dropped."""


@dataclass(slots=True)
class _Window:
    """Period that starts with the first invalid token of an address."""

    ends_at: datetime
    count: int = 0
    is_logged: bool = False
    """Whether it was logged that the address reached the limit."""


class FailedAttempts:
    """Counts the invalid tokens of each address and allows `max_attempts` within `window_seconds`."""

    def __init__(self, max_attempts: int, window_seconds: float) -> None:
        self._max_attempts = max_attempts
        self._window_length = timedelta(seconds=window_seconds)
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def record_attempt(self, address: str, now: datetime) -> float | None:
        """Count an attempt as failed before it is verified, to limit concurrent attempts too.

        Returns None when the attempt is allowed. When the address has reached the limit, returns the seconds until the
        window ends, and the attempt is not counted.
        """
        network = client_network(address)
        window = self._windows.get(network)
        # After the clock was set back, a window that ends too far in the future is replaced.
        if window is None or not now < window.ends_at <= now + self._window_length:
            window = self._windows[network] = _Window(now + self._window_length)
            if len(self._windows) > MAX_ADDRESSES:
                self._windows.popitem(last=False)
        self._windows.move_to_end(network)
        if window.count >= self._max_attempts:
            return (window.ends_at - now).total_seconds()
        window.count += 1
        return None

    def log_limit_reached(self, address: str) -> None:
        """Log that the address has reached the limit, once in a window."""
        window = self._windows.get(client_network(address))
        if window is not None and not window.is_logged:
            window.is_logged = True
            log.warning(
                "Received %d invalid tokens from %s; only valid token ids are looked up until the window ends.",
                self._max_attempts,
                address,
            )

    def undo_attempt(self, address: str) -> None:
        """Subtract an attempt whose token was valid or could not be verified."""
        window = self._windows.get(client_network(address))
        if window is not None and window.count > 0:
            window.count -= 1


def client_network(address: str) -> str:
    """Return the key that a client is counted by: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return f"{int(parsed) >> 64:x}::/64"
    return address
