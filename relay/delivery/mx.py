"""What MX records and addresses mean for mail, as plain functions (RFC 5321 §5.1, RFC 7505, RFC 3463).

    answer of the MX question           what follows
    found                               hosts by preference; ourselves and everything at or beyond our own preference leave the list
    found, only "."                     null MX: 556 5.1.10, the domain takes no mail (RFC 7505 §3)
    NODATA                              implicit MX: the domain itself, preference 0
    NXDOMAIN                            550 5.1.2, permanent
    SERVFAIL, timeout                   451 4.4.3, later
    nothing left but ourselves          554 5.4.6, a loop
    addresses only of private networks  550 5.4.4, permanent: nobody can mean that (unless delivery.allow_private)

Equal preferences are shuffled for each connection (`order`), not when the route is made, so that a busy site spreads over its hosts.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from relay.delivery.dns import Answer, Mx
from relay.errors import NoRoute
from relay.mail.reply import Reply

MOST = 20  # exchangers considered; a longer list is a mistake or an attack

Preferred = TypeVar("Preferred")  # anything with a `preference`: Mx, Host


def exchangers(domain: str, answer: Answer, selves: Collection[str] = ()) -> tuple[Mx, ...]:
    """The hosts for a domain, best first, in a stable order; raises NoRoute.

    domain  as asked, for the text; an implicit MX is `answer.name`, which has followed CNAMEs (RFC 5321 §5.1)
    selves  our own names in lower case
    """
    if answer.failed:
        raise NoRoute(Reply(451, "4.4.3", f"the mail exchanger of {domain} cannot be looked up now: {answer.why or 'no answer'}"))
    if answer.status == "nxdomain":
        raise NoRoute(Reply(550, "5.1.2", f"the domain {domain} does not exist"))
    found: Iterable[Mx] = answer.records if answer.found else (Mx(0, answer.name),)
    named = sorted({each for each in found if each.host}, key=lambda each: (each.preference, each.host))
    if not named:
        raise NoRoute(Reply(556, "5.1.10", f"the domain {domain} does not accept mail (null MX)"))
    others = before_us(named, [each for each in named if each.host in selves])
    if not others:
        raise NoRoute(Reply(554, "5.4.6", f"mail for {domain} loops back to this host: it is the best mail exchanger there, and has no route for it"))
    return tuple(others[:MOST])


def before_us(hosts: Sequence[Preferred], ourselves: Sequence[Preferred]) -> Sequence[Preferred]:
    """The hosts strictly better than the best of ourselves, all of them if we are none (RFC 5321 §5.1: else mail would come back)."""
    if not ourselves:
        return hosts
    own = min(each.preference for each in ourselves)
    return [each for each in hosts if each.preference < own]


def order(hosts: Sequence[Preferred], shuffle: Callable[[list], None] = random.shuffle) -> Sequence[Preferred]:
    """The hosts to try in turn: by preference, equals in random order."""
    if len(hosts) < 2:
        return hosts
    mixed = list(hosts)
    shuffle(mixed)
    mixed.sort(key=lambda host: host.preference)
    return mixed


def literal(domain: str, allow_private: bool = False) -> str:
    """The address in "[192.0.2.1]" or "[IPv6:2001:db8::1]"; raises NoRoute if it is none, or one where no mail may go."""
    text = domain.strip("[]")
    try:
        address = ipaddress.ip_address(text[5:] if text[:5].lower() == "ipv6:" else text)
    except ValueError:
        raise NoRoute(Reply(550, "5.1.2", f"{domain} is not an address")) from None
    if not allow_private and prohibited(str(address)):
        raise NoRoute(Reply(550, "5.4.4", f"mail to {domain} is not sent: the address is private or reserved"))
    return str(address)


def prohibited(address: str) -> bool:
    """Whether an MX may not point here: loopback, RFC 1918 and RFC 4193, link local, 0.0.0.0, multicast, reserved, and the like in IPv6's clothes."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is not None:
            ip = inner
    return not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified


_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind a translator
