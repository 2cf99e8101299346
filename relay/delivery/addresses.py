"""Which addresses of a host to connect to, and from which of ours.

IPv4 comes first: a young IPv6 prefix has no reputation, and large receivers refuse what IPv4 would have got through. IPv6 is used from a source whose name
and address confirm each other (FCrDNS), since receivers demand that of IPv6 clients; `delivery.ipv6` says "always" or "never" instead.
"""

from __future__ import annotations

import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from relay.delivery import mx
from relay.delivery.dns import Resolver
from relay.delivery.route import Host, Route
from relay.errors import ConnectFailed
from relay.mail.reply import Reply
from relay.settings import Delivery

CONFIRMED = 3600.0  # seconds that the FCrDNS of a source is believed
SITES = 10_000  # sites whose turn among the sources is remembered
PROBE = ("2001:4860:4860::8888", 53)  # a global address; a UDP "connection" to it sends nothing and tells the source that the kernel would take


@dataclass(frozen=True, slots=True)
class Target:
    """An address to try, and ours to try it from ("" = the kernel's choice)."""

    address: str
    source: str = ""


class Addresses:
    """Looks the hosts of routes up.

    options   delivery.sources, allow_private, ipv6
    own       addresses on which we ourselves listen: a host that has one is us
    """

    def __init__(self, options: Delivery, resolver: Resolver, own: Collection[str] = (), elapsed: Callable[[], float] = time.monotonic):
        self._resolver, self._elapsed = resolver, elapsed
        self._private, self._ipv6 = options.allow_private, options.ipv6
        self._v4 = tuple(each for each in options.sources if ":" not in each)
        self._v6 = tuple(each for each in options.sources if ":" in each)
        self._configured = bool(options.sources)
        self.own = frozenset(own)
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._confirmed: dict[str, tuple[float, bool]] = {}

    async def of(self, route: Route, host: Host) -> list[Target]:
        """The targets of a host, best first; raises ConnectFailed in phase "dns", permanent if the host can never be reached."""
        if host.address:
            found, failed = [host.address], ""
        else:
            found, failed = await self._look_up(host.name)
        if not found:
            if failed:
                raise ConnectFailed(Reply(451, "4.4.3", f"the address of {host.name} cannot be looked up now: {failed}"), "dns", host.name)
            raise ConnectFailed(Reply(550, "5.4.4", f"the mail host {host.name} has no address"), "dns", host.name)
        if not route.exempt:
            if not self.own.isdisjoint(found):
                raise ConnectFailed(Reply(554, "5.4.6", f"mail loops back to this host: {host.name} has our address"), "dns", host.name)
            if not self._private:
                found = [each for each in found if not mx.prohibited(each)]
                if not found:
                    raise ConnectFailed(Reply(550, "5.4.4", f"the mail host {host.name} has only private or reserved addresses"), "dns", host.name)
        targets = await self._from_sources(route, found)
        if not targets:
            raise ConnectFailed(Reply(451, "4.4.1", f"the mail host {host.name} has no address that our sources can reach"), "dns", host.name)
        return targets

    async def _look_up(self, name: str) -> tuple[list[str], str]:
        """Addresses, IPv4 first and each kind in random order, and why a look-up failed."""
        found: list[str] = []
        failed = ""
        for kind in ("A",) if self._ipv6 == "never" else ("A", "AAAA"):
            answer = self._resolver.known(name, kind) or await self._resolver.lookup(name, kind)
            records = answer.records
            found += random.sample(records, len(records)) if len(records) > 1 else records
            failed = failed or (answer.why or "no answer" if answer.failed else "")
        return found, failed

    async def _from_sources(self, route: Route, found: list[str]) -> list[Target]:
        targets = []
        v4 = self._turn(route.site, self._v4)
        for address in found:
            if ":" not in address:
                if v4 or not self._configured:
                    targets.append(Target(address, v4))
            else:
                source = await self._six(route)
                if source is not None:
                    targets.append(Target(address, source))
        return targets

    async def _six(self, route: Route) -> str | None:
        """The source for an IPv6 target, None if there is none that we may use."""
        if route.exempt or self._ipv6 == "always":
            return self._turn(route.site, self._v6) if self._v6 or not self._configured else None
        if self._ipv6 == "never":
            return None
        candidates = self._v6 if self._configured else kernel_source()
        good = tuple([each for each in candidates if await self._is_confirmed(each)])
        return self._turn(route.site, good) if good else None

    async def _is_confirmed(self, source: str) -> bool:
        until, good = self._confirmed.get(source, (0.0, False))
        if until < self._elapsed():
            good = bool(await self._resolver.confirmed(source))
            self._confirmed[source] = self._elapsed() + CONFIRMED, good
        return good

    def _turn(self, site: str, sources: tuple[str, ...]) -> str:
        """The next source for a site, round robin; "" without sources."""
        if len(sources) < 2:
            return sources[0] if sources else ""
        turn = self._turns.pop(site, -1) + 1
        self._turns[site] = turn
        if len(self._turns) > SITES:
            self._turns.popitem(last=False)
        return sources[turn % len(sources)]


def kernel_source() -> tuple[str, ...]:
    """The IPv6 address from which the kernel would send, as a tuple of one, or of none where there is no route."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(PROBE)
            return (probe.getsockname()[0],)
    except OSError:
        return ()
