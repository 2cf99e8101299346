"""Which addresses of a host to connect to, and from which of ours.

IPv4 comes first: a young IPv6 prefix has no reputation, and large receivers refuse what IPv4 would have got through. IPv6 is used from a source whose name
and address confirm each other (FCrDNS), since receivers demand that of IPv6 clients; `delivery.ipv6` says "always" or "never" instead.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from relay.delivery import mx
from relay.delivery.dns import Resolver
from relay.delivery.route import Host, Route
from relay.errors import ConnectFailed
from relay.mail.reply import Reply
from relay.settings import Delivery

CONFIRMED = 3600.0  # seconds that the FCrDNS of a source is believed
LOOK = 60.0  # seconds until we look again at what was not so
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
        self.sources = max(1, len(self._v4))  # of ours that share the work
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._open: Counter[tuple[str, str]] = Counter()  # connections of a site by source; only those that stand or are being made
        self._confirmed: dict[str, tuple[float, bool]] = {}
        self._kernel: tuple[float, tuple[str, ...]] = (0.0, ())

    async def of(self, route: Route, host: Host, exclude: Collection[str] = (), source: str = "") -> list[Target]:
        """The targets of a host, best first, from a source that is not among `exclude` if there is another; with `source`, from that one where it can.

        Raises ConnectFailed in phase "dns", permanent if the host can never be reached.
        """
        four = source if source in self._v4 else self._turn(route.site, self._v4, exclude)
        six = source if source in self._v6 else await self._six(route)
        found = [host.address] if host.address else await self._look_up(host.name, six is not None)
        if not route.exempt:
            found = self._permitted(host.name, found)
        targets = [Target(address, four) for address in found if ":" not in address and (four or not self._configured)]
        if six is not None:
            targets += [Target(address, six) for address in found if ":" in address]
        if source:
            targets.sort(key=lambda target: target.source != source)
        if not targets:
            raise _failed(451, "4.4.1", f"the mail host {host.name} has no address that our sources can reach", host.name)
        return targets

    async def _look_up(self, name: str, six: bool) -> list[str]:
        """Addresses, each kind in random order; AAAA are asked for where we could use them, or to tell a host of IPv6 alone from one that is not there."""
        found: list[str] = []
        failed = ""
        for kind in ("A", "AAAA"):
            if kind == "AAAA" and found and not six:
                break
            answer = self._resolver.known(name, kind) or await self._resolver.lookup(name, kind)
            found += random.sample(answer.records, len(answer.records))
            failed = failed or (answer.why or "no answer" if answer.failed else "")
        if not found and failed:
            raise _failed(451, "4.4.3", f"the address of {name} cannot be looked up now: {failed}", name)
        if not found:
            raise _failed(550, "5.4.4", f"the mail host {name} has no address", name)
        return found

    def _permitted(self, name: str, found: list[str]) -> list[str]:
        """Those that mail may go to."""
        if not self.own.isdisjoint(found):
            raise _failed(554, "5.4.6", f"mail loops back to this host: {name} has our address", name)
        if not self._private:
            found = [each for each in found if not mx.prohibited(each)]
        if not found:
            raise _failed(550, "5.4.4", f"the mail host {name} has only private or reserved addresses", name)
        return found

    async def _six(self, route: Route) -> str | None:
        """The source for IPv6 targets, "" = the kernel's choice, None if there is none that we may use."""
        if route.exempt or self._ipv6 == "always":
            return self._turn(route.site, self._v6) if self._v6 or not self._configured else None
        if self._ipv6 == "never":
            return None
        good = tuple([each for each in self._v6 if await self._is_confirmed(each)]) if self._configured else await self._kernel_choice()
        return self._turn(route.site, good) if good else None

    async def _kernel_choice(self) -> tuple[str, ...]:
        """The address that the kernel would send from, if it is confirmed; looked at once a minute."""
        until, source = self._kernel
        if until < self._elapsed():
            source = kernel_source()
            self._kernel = self._elapsed() + LOOK, source
        return source if source and await self._is_confirmed(source[0]) else ()

    async def _is_confirmed(self, source: str) -> bool:
        until, good = self._confirmed.get(source, (0.0, False))
        if until < self._elapsed():
            good = bool(await self._resolver.confirmed(source))
            self._confirmed[source] = self._elapsed() + (CONFIRMED if good else LOOK), good
        return good

    def _turn(self, site: str, sources: tuple[str, ...], exclude: Collection[str] = ()) -> str:
        """The source with the fewest connections to a site, in turns among equals; "" without sources."""
        if len(sources) < 2:
            return sources[0] if sources else ""
        turn = self._turns.pop(site, -1) + 1
        self._turns[site] = turn
        if len(self._turns) > SITES:
            self._turns.popitem(last=False)
        begin = turn % len(sources)
        line = [each for each in sources[begin:] + sources[:begin] if each not in exclude] or sources
        return min(line, key=lambda each: self._open[site, each])

    def took(self, site: str, source: str) -> None:
        """A connection from this source is being made."""
        self._open[site, source] += 1

    def gave_back(self, site: str, source: str) -> None:
        """It is gone, or came to nothing."""
        if self._open[site, source] <= 1:
            del self._open[site, source]
        else:
            self._open[site, source] -= 1


def _failed(code: int, enhanced: str, text: str, name: str) -> ConnectFailed:
    return ConnectFailed(Reply(code, enhanced, text), "dns", name)


def kernel_source() -> tuple[str, ...]:
    """The IPv6 address from which the kernel would send, as a tuple of one, or of none where there is no route."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(PROBE)
            return (probe.getsockname()[0],)
    except OSError:
        return ()
