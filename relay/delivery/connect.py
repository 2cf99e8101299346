"""Opening a connection for a route: its hosts in order, each of their addresses, greeting, EHLO, TLS, AUTH (RFC 5321 §5.1, RFC 3207, RFC 4954).

A host that cannot serve is no verdict on the mail: a 4yz or 5yz greeting, a refused EHLO, a failed handshake or login mean the next address, then a later
attempt. Only these end it: no host has an address that mail may go to, every host says 521 (RFC 7504: never any mail here), or the host greets with our
own name (a loop). At most eight addresses and ten minutes are spent.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from relay.delivery import mx, tls
from relay.delivery.addresses import Addresses, Target
from relay.delivery.connection import TIMED, Connection
from relay.delivery.dns import Resolver
from relay.delivery.route import Host, Route, is_address
from relay.errors import ConnectFailed
from relay.mail.reply import Reply
from relay.metrics import counter, gauge
from relay.settings import Settings
from relay.smtp import client as smtp
from relay.smtp.client import Client, Lost, Timeouts, Watch
from relay.smtp.tls import counted

if TYPE_CHECKING:
    from prometheus_client import Gauge

MOST = 8  # addresses tried for one connection
TOTAL = 600.0  # seconds for all of them; one greeting may take five minutes

OPEN = gauge("connections_out_open", "Outbound connections that are open, by the address of ours that they come from", "provider", "source")
MADE = counter("connections_out_total", "Outbound connections by what became of them: ok or the phase that failed", "provider", "result")
UNBOUND = counter("bind_failures_total", "Connections that could not be made because the source is no address of this machine")
TLS = counter("tls_out_total", "Outbound connections by TLS: verified, unverified, plain, failed", "result")
_TLS = {result: TLS.labels(result) for result in ("verified", "unverified", "plain", "failed")}


class Connector:
    """Opens connections.

    settings  hostname, delivery.*
    own       addresses on which this relay itself takes mail at delivery.port: an MX there is ourselves (another server may share the machine)
    trust     the context for rules of "verified"; None = the machine's authorities
    now       UTC seconds, for the memory of broken TLS: `broken.until` maps host names to the end of it
    """

    def __init__(self, settings: Settings, resolver: Resolver, *, timeouts: Timeouts | None = None, own: Collection[str] = (),
                 trust: ssl.SSLContext | None = None, now: Callable[[], float] = time.time):
        self.name = settings.hostname
        self.timeouts = timeouts or Timeouts()
        self.addresses = Addresses(settings.delivery, resolver, own)
        self._trust = trust
        self.broken = tls.Broken(now)
        self._providers: dict[str, _Provider] = {}
        self.watch: Watch | None = None

    async def connect(self, route: Route, exclude: Collection[str] = (), source: str = "") -> Connection:
        """A connection ready for MAIL.

        exclude  names or addresses of hosts to pass over, and sources where there are others
        source   ours that it should come from

        Raises ConnectFailed with the temporary reply of the best host that had one, else a permanent one.
        """
        begun, tried = time.monotonic(), 0
        failures: list[ConnectFailed] = []
        hosts = mx.order(route.hosts)
        limit = None  # preference from which on hosts lead back to us
        for host in hosts:
            if host.name in exclude or (limit is not None and host.preference >= limit):
                continue
            asked = time.monotonic()
            try:
                targets = await self.addresses.of(route, host, exclude, source)
                _took("dns", asked)
            except ConnectFailed as failure:
                failures.append(failure)
                self._provider(route).failed("dns")
                limit = host.preference if failure.reply.enhanced == "5.4.6" else limit
                continue
            for target in targets:
                if target.address in exclude:
                    continue
                if tried >= MOST or time.monotonic() - begun > TOTAL:
                    raise self._verdict(route, failures, begun)
                tried += 1
                try:
                    return await self._open_one(route, host, target)
                except ConnectFailed as failure:
                    failures.append(failure)
                    self._provider(route).failed(failure.phase)
                if failures[-1].reply.enhanced == "5.4.6":
                    limit = host.preference
                    break
        raise self._verdict(route, failures, begun)

    def _verdict(self, route: Route, failures: list[ConnectFailed], begun: float) -> ConnectFailed:
        """Of all that went wrong: something temporary if there was any, and among those the one that came farthest."""
        if not failures:
            return ConnectFailed(Reply(451, "4.4.4", f"no further host to try for {route.site}"), "connect")
        worst = max(failures, key=lambda each: (not each.reply.permanent, _PHASES.index(each.phase)))
        worst.seconds = time.monotonic() - begun
        return worst

    async def _open_one(self, route: Route, host: Host, target: Target) -> Connection:
        """A connection to one address; after a failed opportunistic handshake a second one in the clear. Raises ConnectFailed."""
        provider = self._provider(route)
        self.watch = self.watch or Watch(asyncio.get_running_loop())
        attempt = _Attempt(self, route, host, target, provider)
        plain = route.tls.level == "none" or (route.tls.level == "opportunistic" and host.name in self.broken)
        try:
            client, verified = await attempt.open(None if plain else self._context(route))
        except _HandshakeFailed as failure:
            _TLS["failed"].inc()
            if route.tls.level != "opportunistic" or route.tls.implicit:
                raise attempt.failed(Reply(454, "4.7.5", f"TLS with {host.name} failed: {failure}"), "tls") from failure
            self.broken.add(host.name)
            client, verified = await attempt.open(None)
        secure = client.secure
        _TLS["plain" if secure is None else "verified" if verified else "unverified"].inc()
        counted(secure, "out")
        provider.ready()
        return Connection(client, route, host, target.address, target.source, tls.described(secure, verified), self.connect,
                          self.addresses.sources)

    def _context(self, route: Route) -> ssl.SSLContext:
        if route.tls.level == "verified":
            return self._trust or tls.trusted()
        return tls.any_certificate()

    def _provider(self, route: Route) -> _Provider:
        found = self._providers.get(route.provider)
        if found is None:
            found = self._providers[route.provider] = _Provider(route.provider)
        return found


_PHASES = ("dns", "connect", "banner", "ehlo", "tls", "auth")


class _HandshakeFailed(Exception):
    """The TLS handshake did not come off; the text says why."""


class _Provider:
    """The metrics of a provider with their labels resolved."""

    __slots__ = ("_failed", "_name", "_open", "ready")

    def __init__(self, name: str):
        self._name = name
        self._open: dict[str, Gauge] = {}
        self.ready = MADE.labels(name, "ok").inc
        self._failed = {phase: MADE.labels(name, phase).inc for phase in _PHASES}

    def failed(self, phase: str) -> None:
        self._failed[phase]()

    def open(self, source: str) -> Gauge:
        """How many stand from this source."""
        found = self._open.get(source)
        if found is None:
            found = self._open[source] = OPEN.labels(self._name, source or "default")
        return found


class _Attempt:
    """The steps to one address, each raising ConnectFailed with the phase."""

    __slots__ = ("connector", "host", "name", "provider", "route", "target")

    def __init__(self, connector: Connector, route: Route, host: Host, target: Target, provider: _Provider):
        self.connector, self.route, self.host, self.target, self.provider = connector, route, host, target, provider
        self.name = connector.name

    def failed(self, reply: Reply, phase: str) -> ConnectFailed:
        return ConnectFailed(reply, phase, self.host.name, self.target.address, self.target.source)

    async def open(self, context: ssl.SSLContext | None) -> tuple[Client, bool]:
        """A client ready for MAIL and whether its certificate was verified; `context` None speaks in the clear. Raises _HandshakeFailed too."""
        implicit, at = self.route.tls.implicit, time.monotonic()
        client = await self._connect(context if implicit else None)
        at, phase = _took("connect", at), "banner"
        try:
            self._welcome(await client.greeting(), "banner")
            at, phase = _took("banner", at), "ehlo"
            self._welcome(await client.hello(self.name), "ehlo", client.extensions.name)
            at, secure = _took("ehlo", at), implicit
            if context is not None and not implicit:
                phase = "tls"
                secure = await self._secure(client, context)
                at = _took("tls", at)
            if self.route.username:
                phase = "auth"
                await self._login(client)
                _took("auth", at)
        except Lost as lost:
            client.abort()
            raise self.failed(Reply(451, "4.4.2", f"lost the connection to {self.host.name}: {lost}"), phase) from lost
        except BaseException:
            client.abort()
            raise
        return client, secure and self.route.tls.level == "verified"

    async def _connect(self, context: ssl.SSLContext | None) -> Client:
        target, host, connector = self.target, self.host, self.connector
        connector.addresses.took(self.route.site, target.source)
        try:
            client = await smtp.connect(target.address, host.port, connector.timeouts, connector.watch, source=target.source, tls=context,
                                        name=_sni(host) if context else "", ended=self._ended)
        except BaseException as error:
            connector.addresses.gave_back(self.route.site, target.source)
            if isinstance(error, OSError):
                raise self._unreachable(error) from error
            raise
        self.provider.open(target.source).inc()
        return client

    def _unreachable(self, error: OSError) -> Exception:
        """What a dial that failed means; ssl.SSLError and TimeoutError are OSErrors."""
        at = f"{self.target.address} port {self.host.port}"
        if self.target.source and error.errno == errno.EADDRNOTAVAIL:
            UNBOUND.inc()
            return self.failed(Reply(451, "4.4.1", f"cannot send from {self.target.source}: it is no address of this machine (delivery.sources)"), "connect")
        if isinstance(error, ssl.SSLError):
            return _HandshakeFailed(error.reason or str(error))
        words = f"no answer from {at}" if isinstance(error, TimeoutError) else f"cannot connect to {at}: {error.strerror or error}"
        return self.failed(Reply(451, "4.4.1", words), "connect")

    def _ended(self, client: Client) -> None:
        self.provider.open(self.target.source).dec()
        self.connector.addresses.gave_back(self.route.site, self.target.source)

    def _welcome(self, said: Reply, phase: str, name: str = "") -> None:
        """Pass a 2yz; every other answer sends us to the next host, only 521 and our own name are final."""
        if 200 <= said.code < 300:
            name = name or said.text.partition("\n")[0].partition(" ")[0]
            if name.lower() == self.name.lower() and not self.route.exempt:
                raise self.failed(Reply(554, "5.4.6", f"mail loops back to this host: {self.target.address} greets with our name"), phase)
        elif said.code == 521 or said.transient:
            raise self.failed(said, phase)
        else:
            raise self.failed(Reply(451, f"4{said.enhanced[1:]}" if said.enhanced else "4.3.2", f"{self.host.name} is not ready for mail: {said}"), phase)

    async def _secure(self, client: Client, context: ssl.SSLContext) -> bool:
        """STARTTLS and EHLO again; False where an opportunistic rule goes on in the clear."""
        needed = self.route.tls.level != "opportunistic"
        if not client.extensions.starttls:
            if needed:
                raise self.failed(Reply(454, "4.7.4", f"TLS is required, and {self.host.name} does not offer STARTTLS"), "tls")
            return False
        try:
            said = await client.secured(context, _sni(self.host))
        except (Lost, OSError, TimeoutError) as error:  # ssl.SSLError and CertificateError are OSErrors
            client.abort()
            raise _HandshakeFailed(str(error) or type(error).__name__) from error
        if said.code != 220:
            if needed:
                raise self.failed(Reply(454, "4.7.5", f"TLS is required, and {self.host.name} said: {said}"), "tls")
            return False
        self._welcome(await client.hello(self.name), "ehlo", client.extensions.name)
        return True

    async def _login(self, client: Client) -> None:
        """AUTH, over TLS unless the rule says "none" or the host is this machine; a refusal is our fault, so the mail waits."""
        loopback = self.target.address.startswith("127.") or self.target.address == "::1"
        if client.secure is None and self.route.tls.level != "none" and not loopback:
            text = f'the password is not sent in the clear: {self.host.name} offers no STARTTLS (tls = "none" allows it)'
            raise self.failed(Reply(454, "4.7.0", text), "auth")
        said = await client.authenticate(self.route.username, self.route.password)
        if said.code != 235:
            reply = said if said.transient else Reply(454, "4.7.8", f"{self.host.name} refuses our user and password: {said}")
            raise self.failed(reply, "auth")


def _took(phase: str, since: float) -> float:
    """Note that a step went well and how long it took; the time now."""
    now = time.monotonic()
    TIMED[phase](now - since)
    return now


def _sni(host: Host) -> str:
    """The name to ask for and to verify; an address is verified as such."""
    return host.address if host.address and is_address(host.address) else host.name
