"""Names looked up: dnspython's asynchronous resolver behind a bounded cache, one lookup per question at a time.

    answer = await resolver.lookup("example.com", "MX")
    answer.found, answer.absent (NXDOMAIN or NODATA), answer.failed (SERVFAIL, timeout, nobody to ask)

What a question means is never an exception: an Answer says which of four things happened, because mail treats each differently (RFC 5321 §5.1: NXDOMAIN
is permanent, NODATA may mean an implicit MX, SERVFAIL is temporary). Positive and negative answers live as long as their TTL says (RFC 2308), failures five
seconds (RFC 9520 §3.2), and when a refresh fails the old records serve for up to a day more (RFC 8767). Askers of the same question share one
lookup; a slow zone has at most four in flight, so that it delays its own names only.

Layer 1, beside `relay/smtp`: the policies' DNS, the domain checks and the router all use it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.reversename

from relay.metrics import counter, histogram

LOOKUP = 10.0  # seconds for one lookup, over all nameservers
IN_FLIGHT = 4  # lookups of one zone at once, so that a tarpit of a nameserver holds few sockets
SIZE = 20_000  # answers kept; about 500 bytes each
LONGEST = 86_400.0  # seconds a positive answer is kept, whatever its TTL
NEGATIVE = 900.0  # seconds a negative answer is kept at most; a new domain must not wait for hours
FAILURE = 5.0  # seconds a failure is kept (RFC 9520 §3.2: at least one, five recommended)
STALE = 86_400.0  # seconds beyond its TTL that an answer may still serve when nobody answers (RFC 8767 §5: one to three days)
STALE_FOR = 30.0  # seconds a stale answer serves before the next try (RFC 8767 §4)

LOOKUPS = counter("dns_lookups_total", "DNS lookups that went to a nameserver, by type and result", "type", "result")
SECONDS = histogram("dns_lookup_seconds", "Time a DNS lookup took")
CACHE = counter("dns_cache_total", "Questions by what the cache did: hit, miss, shared with a lookup under way, stale", "result")
_HIT, _MISS, _SHARED, _STALE = (CACHE.labels(result) for result in ("hit", "miss", "shared", "stale"))


@dataclass(frozen=True, slots=True)
class Mx:
    """A mail exchanger: lower preference first; host in lower case without final dot, "" for the dotted target of RFC 7505."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    status   "found" | "nxdomain" | "nodata" | "failed"
    name     the name that was asked for, after CNAMEs
    records  Mx, Tlsa, or str (A, AAAA: the address; TXT: the joined strings; PTR, CNAME, NS: the name)
    secure   the resolver says that it validated the answer (AD bit)
    until    monotonic seconds until which it may be used
    why      for people, when it failed
    """

    status: str
    name: str
    records: tuple[Any, ...] = ()
    secure: bool = False
    until: float = 0.0
    why: str = ""

    @property
    def found(self) -> bool:
        return self.status == "found"

    @property
    def absent(self) -> bool:
        """The zone says that there is no such record."""
        return self.status in ("nxdomain", "nodata")

    @property
    def failed(self) -> bool:
        """Nobody knows: try again later."""
        return self.status == "failed"


class Resolver:
    """Looks names up.

    nameservers  "host:port" each; empty = those of /etc/resolv.conf
    lookup       seconds for one lookup
    size         answers kept
    elapsed      monotonic clock
    """

    def __init__(self, nameservers: Sequence[str] = (), *, timeout: float = LOOKUP, size: int = SIZE, elapsed: Callable[[], float] = time.monotonic):
        self.nameservers = tuple(nameservers)  # as given
        self._resolver = _configured(nameservers)
        self._resolver.lifetime = timeout
        self._resolver.timeout = min(timeout, max(1.0, timeout / 4))  # seconds for one nameserver's answer before the next is asked
        self._size, self._elapsed = size, elapsed
        self._answers: OrderedDict[tuple[str, str], tuple[Answer, float]] = OrderedDict()  # with the end of the TTL that the zone gave
        self._under_way: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        self._zones: dict[str, _Zone] = {}

    def known(self, name: str, kind: str) -> Answer | None:
        """The answer if the cache has it, without waiting."""
        kept = self._answers.get((name, kind))
        if kept is None or kept[0].until < self._elapsed():
            return None
        _HIT.inc()
        return kept[0]

    async def lookup(self, name: str, kind: str) -> Answer:
        """The answer to a question.

        name  A-labels, lower case, with or without final dot
        kind  "MX", "A", "AAAA", "TXT", "PTR", "TLSA", "CNAME", "NS"

        Never raises; cancelling one asker leaves the lookup to the others.
        """
        answer = self.known(name, kind)
        if answer is not None:
            return answer
        question = (name, kind)
        task = self._under_way.get(question)
        if task is None:
            _MISS.inc()
            task = asyncio.get_running_loop().create_task(self._ask(question))
            self._under_way[question] = task
            task.add_done_callback(lambda _: self._under_way.pop(question, None))
        else:
            _SHARED.inc()
        return await asyncio.shield(task)

    async def names(self, address: str) -> Answer:
        """The PTR names of an IP address."""
        return await self.lookup(dns.reversename.from_address(address).to_text(omit_final_dot=True), "PTR")

    async def confirmed(self, address: str) -> str:
        """The name of an address that leads back to it (FCrDNS, RFC 8601 §2.7.3), or ""."""
        kind = "AAAA" if ":" in address else "A"
        for name in (await self.names(address)).records[:5]:
            if address in (await self.lookup(name, kind)).records:
                return name
        return ""

    def forget(self) -> None:
        """Drop every cached answer (SIGHUP, `relay domain verify`)."""
        self._answers.clear()

    def drop(self, name: str, kind: str) -> None:
        """Drop one cached answer."""
        self._answers.pop((name, kind), None)

    async def _ask(self, question: tuple[str, str]) -> Answer:
        key = zone(question[0])
        waiting = self._zones.setdefault(key, _Zone())
        waiting.users += 1
        try:
            async with waiting.turns:
                answer = self._keep(question, await self._query(*question))
        finally:
            waiting.users -= 1
            if not waiting.users:
                del self._zones[key]
        return answer

    async def _query(self, name: str, kind: str) -> Answer:
        begun = self._elapsed()
        try:
            found = await self._resolver.resolve(dns.name.from_text(name), kind, search=False, raise_on_no_answer=False)
            answer = _read(name, found.response, found.rdtype)
        except dns.resolver.NXDOMAIN as missing:
            answer = _read(name, next(iter(missing.responses().values())), dns.rdatatype.from_text(kind))
        except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong, dns.name.IDNAException, UnicodeError, dns.name.BadEscape):
            answer = Answer("nxdomain", name, until=NEGATIVE)  # no zone can hold such a name
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            answer = Answer("failed", name, until=FAILURE, why=_why(error))
        LOOKUPS.labels(kind, answer.status).inc()
        SECONDS.observe(self._elapsed() - begun)
        return answer

    def _keep(self, question: tuple[str, str], answer: Answer) -> Answer:
        """Cache an answer whose `until` is still a TTL; an old one serves on when the new one is a failure."""
        now, (old, expiry) = self._elapsed(), self._answers.get(question, (None, 0.0))
        if answer.failed and old is not None and old.found and now < expiry + STALE:
            _STALE.inc()
            answer = replace(old, until=now + STALE_FOR)
        else:
            answer = replace(answer, until=now + answer.until)
            expiry = answer.until
        self._answers[question] = answer, expiry
        self._answers.move_to_end(question)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)
        return answer


class _Zone:
    """Turns at a zone's nameservers; lives while somebody waits."""

    __slots__ = ("turns", "users")

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(IN_FLIGHT)
        self.users = 0


def zone(name: str) -> str:
    """Which zone a name most likely belongs to: its last two labels, three under the likes of co.uk, five of a reverse name.

    >>> zone("mx1.mail.example.com"), zone("a.b.co.uk"), zone("1.2.0.192.in-addr.arpa")
    ('example.com', 'b.co.uk', '2.0.192.in-addr.arpa')
    """
    labels = name.rstrip(".").split(".")
    if labels[-1] == "arpa":
        return ".".join(labels[-5:])
    second_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if second_level else labels[-2:])


def _configured(nameservers: Sequence[str]) -> dns.asyncresolver.Resolver:
    """dnspython's resolver without cache; AD is asked for without the bulk of DNSSEC records (RFC 6840 §5.7)."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
        nameservers = ("127.0.0.1:53",)
    if nameservers:
        resolver.nameservers = [_nameserver(text) for text in nameservers]
    resolver.cache = None
    resolver.use_edns(0, 0, 1232)  # bytes of a UDP answer that pass everywhere unfragmented (DNS flag day 2020)
    resolver.flags = dns.flags.RD | dns.flags.AD
    return resolver


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    host, _, port = text.rpartition(":")
    return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))


def _read(name: str, response: dns.message.Message, kind: dns.rdatatype.RdataType) -> Answer:
    """The answer in a response; `until` is its TTL for now."""
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:  # a CNAME loop, or a response that answers something else
        return Answer("failed", name, until=FAILURE, why=_why(error))
    canonical = chain.canonical_name.to_text(omit_final_dot=True).lower()
    secure = bool(response.flags & dns.flags.AD)
    if chain.answer is None:
        status = "nxdomain" if response.rcode() == dns.rcode.NXDOMAIN else "nodata"
        return Answer(status, canonical, secure=secure, until=min(chain.minimum_ttl, NEGATIVE))
    records = tuple(_record(kind, data) for data in chain.answer)
    return Answer("found", canonical, records, secure, min(max(chain.minimum_ttl, 1), LONGEST))


def _record(kind: dns.rdatatype.RdataType, data: dns.rdata.Rdata) -> Any:
    if kind == dns.rdatatype.MX:
        return Mx(data.preference, _host(data.exchange))
    if kind == dns.rdatatype.TXT:
        return b"".join(data.strings).decode("utf-8", "replace")
    if kind == dns.rdatatype.TLSA:
        return Tlsa(data.usage, data.selector, data.mtype, data.cert)
    if kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        return data.address
    return _host(data.target) if hasattr(data, "target") else data.to_text()


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""


def _why(error: BaseException) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, dns.resolver.NoNameservers):
        return "the nameservers answer with an error"
    return str(error).partition("\n")[0][:200] or type(error).__name__


__all__ = ["Answer", "Mx", "Resolver", "Tlsa", "zone"]
