"""Where mail for a domain goes: its Route, from `[[delivery.route]]` or from the MX records (relay/delivery/mx.py decides what they mean).

`Router.route(domain)` costs a dictionary look-up once a domain's MX answer is in the resolver's cache. Addresses are not looked up here: the Connector
does it for the hosts it tries.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.delivery import mx
from relay.delivery.dns import Answer, Resolver
from relay.metrics import OTHER, Earned
from relay.settings import RouteRule, Settings

ROUTES = 20_000  # routes kept; a route is about 400 bytes and shared by nothing
NAME = 200  # characters of a site's name; the store's column has 255

Provider = Callable[[Sequence[str]], "str | None"]  # relay.shaping.Shaping.provider


@dataclass(frozen=True, slots=True)
class TlsRule:
    """What a site's connections owe to TLS.

    level     "none" | "opportunistic" (any certificate, plain text if need be) | "required" (any certificate) | "verified" (the host's own name, trusted)
    implicit  TLS from the first octet instead of STARTTLS
    """

    level: str = "opportunistic"
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """A host to connect to: lower preference first; `address` set where the name is an address itself."""

    name: str
    port: int = 25
    preference: int = 0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts that take mail for a domain, best first.

    site      what limits, suspensions and statistics count by: the provider, else the MX set, else "route:host:port"
    key       the MX set: a connection may carry mail for another domain only if their keys are equal, since a provider's tenants have hosts of their own
    provider  label for metrics: the provider's name, "route", the MX set where it is one of those that get most, or "other"
    exempt    configured by the operator: no MX, loop or private-address rule applies
    """

    site: str
    key: str
    hosts: tuple[Host, ...]
    provider: str = OTHER
    tls: TlsRule = TlsRule()
    exempt: bool = False
    username: str = ""
    password: str = field(default="", repr=False)


class Router:
    """Finds routes.

    settings  hostname, delivery.route, delivery.port, delivery.allow_private
    resolver  MX answers
    provider  the name of a set of MX hosts in config/shaping.toml, or None
    names     further names of this machine, beside hostname: an MX of that name is ourselves
    """

    def __init__(self, settings: Settings, resolver: Resolver, provider: Provider = lambda hosts: None, names: Sequence[str] = ()):
        self._rules = tuple((rule.domain.lower().rstrip("."), configured(rule)) for rule in settings.delivery.route)
        self._port = settings.delivery.port
        self._allow_private = settings.delivery.allow_private
        self._selves = frozenset(name.lower().rstrip(".") for name in (settings.hostname, *names) if name)
        self._resolver, self._provider = resolver, provider
        self._large = Earned()  # sites without a name in the table that get much: they have series of their own
        self._routes: OrderedDict[str, tuple[Answer, Route]] = OrderedDict()

    async def route(self, domain: str) -> Route:
        """The route of a domain (A-labels in lower case, or "[192.0.2.1]"); raises NoRoute with the reply that its recipients get."""
        for pattern, route in self._rules:
            if matches(pattern, domain):
                return route
        if domain.startswith("["):
            return self._literal(domain)
        answer = self._resolver.known(domain, "MX") or await self._resolver.lookup(domain, "MX")
        kept = self._routes.get(domain)
        if kept is not None and kept[0] is answer and (kept[1].provider != OTHER or self._large.label(kept[1].key) == OTHER):
            return kept[1]
        route = self._by_mx(domain, answer)
        self._routes[domain] = answer, route
        if len(self._routes) > ROUTES:
            self._routes.popitem(last=False)
        return route

    def _by_mx(self, domain: str, answer: Answer) -> Route:
        exchangers = mx.exchangers(domain, answer, self._selves)
        hosts = tuple(Host(each.host, self._port, each.preference) for each in exchangers)
        names = sorted({host.name for host in hosts})
        key, provider = site_name(names), self._provider(names)
        return Route(provider or key, key, hosts, provider or self._large.label(key))

    def _literal(self, domain: str) -> Route:
        address = mx.literal(domain, self._allow_private)
        return Route(domain, domain, (Host(address, self._port, 0, address),))


def configured(rule: RouteRule) -> Route:
    """The route of a `[[delivery.route]]`: one host, exempt from the rules for other people's MX records."""
    name, port = host_port(rule.host)
    level = {"implicit": "verified", "": "opportunistic"}.get(rule.tls, rule.tls)
    key = f"route:{name}:{port}"
    return Route(key, f"{key}:{rule.username}", (Host(name, port, 0, name if is_address(name) else ""),), "route",
                 TlsRule(level, rule.tls == "implicit"), True, rule.username, rule.password)


def matches(pattern: str, domain: str) -> bool:
    """Whether a rule's domain covers this one: exact, "*.suffix" (sub-domains only) or "*"."""
    return pattern == "*" or pattern == domain or (pattern.startswith("*.") and domain.endswith(pattern[1:]))


def host_port(text: str, port: int = 25) -> tuple[str, int]:
    """Name and port of "name:port", "192.0.2.1:port", "[2001:db8::1]:port" or any of them without port."""
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name, int(rest[1:]) if rest.startswith(":") else port
    name, colon, rest = text.partition(":")
    if ":" in rest:  # a bare IPv6 address
        return text, port
    return name.lower().rstrip("."), int(rest) if colon else port


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def site_name(names: Sequence[str]) -> str:
    """The MX set in one word; a long one is cut and told apart by a digest."""
    joined = ",".join(names)
    if len(joined) <= NAME:
        return joined
    return f"{joined[:NAME - 9].rpartition(',')[0] or joined[:NAME - 9]}#{hashlib.sha256(joined.encode()).hexdigest()[:8]}"
