"""How much one sender may bring in an hour, as far as this process knows: bounded memory, no store, forgotten at a restart."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

HOUR = 3_600.0  # seconds
SENDERS = 20_000  # remembered, the longest unseen go first
SITE = 64  # bits of an IPv6 address that one customer has (RFC 6177)


class Pace:
    """Counts messages by sender in windows of an hour. `limit` 0 = no limit."""

    def __init__(self, limit: int):
        self.limit = limit
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when the window began, and how many since

    def take(self, who: str, now: float) -> bool:
        """Whether `who` may bring one more; it is counted then. `now` in seconds of any clock."""
        if not self.limit:
            return True
        begun, used = self._seen.pop(who, (now, 0))
        if now - begun >= HOUR or now < begun:
            begun, used = now, 0
        allowed = used < self.limit
        self._seen[who] = (begun, used + allowed)
        if len(self._seen) > SENDERS:
            self._seen.popitem(last=False)
        return allowed


def source(client: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ip_address(client)
    except ValueError:
        return client
    return str(ip_network((found, SITE), strict=False)) if isinstance(found, IPv6Address) else str(found)
