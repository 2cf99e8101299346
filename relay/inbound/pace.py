"""How much one sender may bring in an hour: bounded memory, and no look into the store for who stays within his share.

One relay counts for itself, and forgets at a restart. Of several that share a store each takes the sender's places there in slices of a SLICES-th, so that they
let no more through together than one would, and a sender who brings little costs one write in an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from relay.policy import Counters

HOUR = 3_600.0  # seconds
SENDERS = 20_000  # remembered, the longest unseen go first
SITE = 64  # bits of an IPv6 address that one customer has (RFC 6177)
SLICES = 20  # of the limit, each taken from the shared count at once


@dataclass(slots=True)
class _Sender:
    """What one has used of what was granted since his hour began; `closed` until when no more is to be had (seconds of the caller's clock)."""

    begun: float
    granted: int
    used: int = 0
    closed: float = 0.0


class Pace:
    """Counts messages by sender in windows of an hour.

    limit   0 = no limit
    shared  the counters of all relays on one store; None for a relay that is alone
    """

    def __init__(self, limit: int, shared: Counters | None = None):
        self.limit, self._shared = limit, shared
        self._slice = max(1, limit // SLICES)
        self._seen: OrderedDict[str, _Sender] = OrderedDict()

    async def take(self, who: str, now: float) -> bool:
        """Whether `who` may bring one more; it is counted then. `now` in seconds of any clock. Raises StoreError."""
        if not self.limit:
            return True
        sender = self._sender(who, now)
        if sender.used >= sender.granted:
            await self._grant(who, sender, now)
        allowed = sender.used < sender.granted
        sender.used += allowed
        return allowed

    def _sender(self, who: str, now: float) -> _Sender:
        found = self._seen.pop(who, None)
        if found is None or not 0 <= now - found.begun < HOUR:
            found = _Sender(now, 0 if self._shared else self.limit)
        self._seen[who] = found
        if len(self._seen) > SENDERS:
            self._seen.popitem(last=False)
        return found

    async def _grant(self, who: str, sender: _Sender, now: float) -> None:
        if self._shared is None or now < sender.closed:
            return
        wait = await self._shared.take(f"inbound:{sha256(who.encode('utf-8', 'replace')).hexdigest()}", self.limit, HOUR, self._slice)
        if wait:
            sender.closed = now + wait
        else:
            sender.granted += self._slice


def source(client: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ip_address(client)
    except ValueError:
        return client
    return str(ip_network((found, SITE), strict=False)) if isinstance(found, IPv6Address) else str(found)
