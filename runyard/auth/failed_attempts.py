"""How many wrong tokens have come from where: each costs a look into the database, and nobody is to have it for nothing."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

log = logging.getLogger("runyard.auth.authenticator")

MOST_ADDRESSES = 10_000
"""Addresses that are remembered, those that were seen last: nobody can fill this up."""


@dataclass(slots=True)
class _Window:
    """A span of time, from the first wrong token of an address on."""

    ends_at: datetime
    count: int = 0
    is_told: bool = False
    """Whether the log tells that there were too many."""


class WrongTokens:
    """The wrong tokens of each address, of which `most` are looked at within `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._length = timedelta(seconds=seconds)
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def count(self, address: str, now: datetime) -> float | None:
        """Count one for wrong, until it turns out to be right: many that come at once are not to be looked at all.

        How many seconds it would have to wait, and not counted, where the address has had its share.
        """
        place = network_of(address)
        window = self._windows.get(place)
        # A clock may be set back.
        if window is None or not now < window.ends_at <= now + self._length:
            window = self._windows[place] = _Window(now + self._length)
            if len(self._windows) > MOST_ADDRESSES:
                self._windows.popitem(last=False)
        self._windows.move_to_end(place)
        if window.count >= self._most:
            return (window.ends_at - now).total_seconds()
        window.count += 1
        return None

    def tell(self, address: str) -> None:
        """Tell the log, once, that this address has had its share."""
        window = self._windows.get(network_of(address))
        if window is not None and not window.is_told:
            window.is_told = True
            log.warning("%d wrong tokens have come from %s; for a while, no more are looked up.", self._most, address)

    def take_back(self, address: str) -> None:
        """Count one less: it was right."""
        window = self._windows.get(network_of(address))
        if window is not None and window.count > 0:
            window.count -= 1


def network_of(address: str) -> str:
    """What one client has: an address, or of IPv6 the 64 bits that are its network's."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return f"{int(known) >> 64:x}::/64"
    return address
