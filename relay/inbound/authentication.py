"""Who a message is really from, as far as DNS and signatures prove it: SPF, DKIM, DMARC, and the field that says so (RFC 8601).

    check     asks DNS and verifies, off the event loop; takes at most TIME and never fails: what could not be found out is `temperror`
    field     our Authentication-Results, for the top of the message
    strip     the header without Authentication-Results that claim to be ours: anybody can write them (RFC 8601 §5)

Nothing is refused here; relay.inbound.received knows what a domain's policy means for a message.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import authres

from relay.delivery.dns import Answer, Resolver
from relay.errors import Invalid
from relay.inbound import dmarc, spf
from relay.inbound.dmarc import Dmarc
from relay.inbound.spf import Spf
from relay.mail import address, mailbox, signatures
from relay.mail.header import Field, Header
from relay.mail.signatures import Claim, Signature
from relay.metrics import counter

TIME = 20.0  # seconds for all checks of a message; its sender waits for our 250 at least five minutes (RFC 5321 §4.5.3.2.6)
AT_ONCE = 8  # messages being checked, each with a thread of its own while it computes or SPF waits for DNS
NAME = b"authentication-results"

CHECKED = counter("inbound_authentication_total", "Checks of mail to us by method and result", "method", "result")

_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a check needs of the transaction: IP address, greeting and reverse-path of the client."""

    client: str
    helo: str
    sender: str


@dataclass(frozen=True, slots=True)
class Authentication:
    """What was found out."""

    spf: Spf
    dkim: tuple[Signature, ...]
    dmarc: Dmarc

    def shown(self) -> dict[str, Any]:
        """As JSON, for the API and events."""
        return {
            "spf": {"result": self.spf.result, "domain": self.spf.domain or None},
            "dkim": [{"result": each.result, "domain": each.domain or None, "selector": each.claim.selector or None} for each in self.dkim],
            "dmarc": {"result": self.dmarc.result, "domain": self.dmarc.author or None, "policy": self.dmarc.policy or None},
        }

    def results(self) -> dict[str, Any]:
        """The bare results, for a line of the log."""
        return {"spf": self.spf.result, "dkim": [each.result for each in self.dkim], "dmarc": self.dmarc.result}


class Checks:
    """Checks mail against DNS. `resolver` is the relay's own; `close` when no more comes."""

    def __init__(self, resolver: Resolver):
        self._lookup: Callable[[str, str], Any] = resolver.lookup
        self._threads = ThreadPoolExecutor(AT_ONCE, "authentication")
        self._turns = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(self, arrival: Arrival, fields: Header, content: bytes) -> Authentication:
        """What SPF, DKIM and DMARC say; never raises.

        fields   the header of `content`, the message as it came
        """
        author = author_of(fields)
        claimed = sorted(signatures.claims(fields), key=lambda claim: not _kin(claim.domain, author))
        try:
            async with asyncio.timeout(TIME), self._turns:
                found = await self._found(arrival, author, tuple(claimed), content)
        except TimeoutError:
            found = _unknown(arrival, author, tuple(claimed))
        for method, result in (("spf", found.spf.result), *(("dkim", each.result) for each in found.dkim), ("dmarc", found.dmarc.result)):
            CHECKED.labels(method, result).inc()
        return found

    async def _found(self, arrival: Arrival, author: str, claimed: tuple[Claim, ...], content: bytes) -> Authentication:
        sender, signed = await asyncio.gather(
            spf.check(self._lookup, self._threads, arrival.client, arrival.sender, arrival.helo), self._signatures(claimed, content))
        passed = (each.domain for each in signed if each.passed)
        return Authentication(sender, signed, await dmarc.evaluate(self._lookup, author, sender.domain if sender.passed else "", passed))

    async def _signatures(self, claimed: tuple[Claim, ...], content: bytes) -> tuple[Signature, ...]:
        names = list(dict.fromkeys(claim.record for claim in claimed if claim.domain))
        keys = {name: _key(answer) for name, answer in zip(names, await asyncio.gather(*(self._lookup(name, "TXT") for name in names)), strict=True)}
        if not claimed:
            return ()
        return await asyncio.get_running_loop().run_in_executor(self._threads, signatures.verify, content, claimed, keys)


def _key(answer: Answer) -> str | None:
    """The key record among the TXT records of its name; None when nobody knows."""
    if answer.failed:
        return None
    return next((text for text in answer.records if "p=" in text.replace(" ", "")), "")


def _unknown(arrival: Arrival, author: str, claimed: tuple[Claim, ...]) -> Authentication:
    late = "it takes too long"
    return Authentication(Spf("temperror", arrival.sender.rpartition("@")[2] or arrival.helo, reason=late),
                          tuple(Signature(claim, "temperror", late) for claim in claimed), Dmarc("temperror", author, reason=late))


def author_of(fields: Header) -> str:
    """The domain of the one From field as A-label, "" where there is none, several, or one that no two readers understand alike (RFC 9989 §4.3)."""
    found = fields.all(b"from")
    try:
        domains = {each.domain for each in mailbox.mailboxes(found[0].value)} if len(found) == 1 else set()
    except Invalid:
        return ""
    return domains.pop() if len(domains) == 1 else ""


def _kin(domain: str, author: str) -> bool:
    return bool(domain and author) and (address.within(author, domain) or address.within(domain, author))


def field(authserv_id: str, found: Authentication) -> Field:
    """The Authentication-Results field, folded before each result."""
    results = [_spf(found.spf), *(_dkim(each) for each in found.dkim), _dmarc(found.dmarc)]
    folded = "".join(f";\r\n\t{result}" for result in results)
    return Field(NAME, f"Authentication-Results: {authserv_id}{folded}\r\n".encode())


def _spf(found: Spf) -> str:
    said = {"smtp_mailfrom": found.domain or None} if found.identity == "mailfrom" else {"smtp_helo": found.domain or None}
    return str(authres.SPFAuthenticationResult(result=found.result, reason=found.reason or None, **said))


def _dkim(found: Signature) -> str:
    claim = found.claim
    if not claim.domain:
        return str(authres.DKIMAuthenticationResult(result=found.result, reason=found.reason))
    return str(authres.DKIMAuthenticationResult(result=found.result, reason=found.reason or None, header_d=claim.domain, header_s=claim.selector))


def _dmarc(found: Dmarc) -> str:
    comment = f"p={found.policy}" if found.policy else None
    named = {"result_comment": comment, "reason": found.reason or None}
    properties = [authres.AuthenticationResultProperty("header", "from", found.author)] if found.author else []
    return str(authres.AuthenticationResult("dmarc", result=found.result, properties=properties, **named))


def strip(fields: Header, authserv_id: str) -> Header:
    """The header without Authentication-Results fields that bear our name, or whose bearer cannot be told."""
    return Header(tuple(each for each in fields.fields if each.name != NAME or _bearer(each) not in ("", authserv_id.lower())))


def _bearer(given: Field) -> str:
    """The authserv-id, in lower case, without comments and quotes around it (RFC 8601 §2.2)."""
    text = given.value
    for _ in range(9):  # comments nest; what is deeper is nobody's
        text, found = _COMMENT.subn(" ", text)
        if not found:
            break
    words = text.partition(";")[0].split()
    bearer = words[0].strip('"').replace("\\", "").rstrip(".") if words and "(" not in text else ""
    try:
        return address.a_label(bearer)
    except Invalid:
        return bearer.lower()
