"""What may keep an email from the inbox: rows of a table, each with the rule behind it and the way out. Nothing is fetched.

A check is a function of a Subject that gives the message of its warning, or "" when all is well. A new check is a row in CHECKS and a row in its test;
VERSION grows with each change, so that a stored answer can be told from a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from relay.delivery import source
from relay.mail import dkim, html
from relay.mail.message import MARKETING
from relay.store import domains

if TYPE_CHECKING:
    from relay.api.core import Relay
    from relay.mail.message import Principal
    from relay.store.domains import Domain
    from relay.store.emails import Whole

VERSION = 2
PATIENCE = 2.0  # seconds that DNS may take to say who we are
CLIPPED = 100_000  # bytes of HTML; Gmail shows no more than 102 kB
HEAVY = 20_000_000  # bytes of a message; many receivers refuse above 20 to 25 MB

_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|%7B%7B|\*\|.*?\|\*|\[\[.*?\]\]|\{%.*?%\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Subject:
    """An email to be looked at.

    domain  the project's domain of its From with what DNS showed last, None when the project has none
    bulk    it goes to a list: marketing stream, or a topic
    listed  it has, or gets as it leaves, a List-Unsubscribe field
    nameless  an address that we send from and that has no name in DNS which leads back to it
    """

    html: str | None
    text: str | None
    size: int
    domain: Domain | None
    sender_domain: str
    bulk: bool
    listed: bool
    spam: float | None = None
    links: tuple[str, ...] = ()
    nameless: str = ""


@dataclass(frozen=True, slots=True)
class Warning:
    """One finding."""

    code: str
    message: str
    severity: str
    rule: str
    fix: str

    def shown(self) -> dict[str, Any]:
        return {"type": self.code, "code": self.code, "message": self.message, "severity": self.severity, "rule": self.rule, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Check:
    """`find` gives the message, "" for none; severity "low" | "medium" | "high"."""

    code: str
    severity: str
    rule: str
    fix: str
    find: Callable[[Subject], str]


def _record(subject: Subject, kind: str, name: str) -> bool:
    return subject.domain is not None and bool(subject.domain.checks.get(f"{kind} {name}"))


def _dkim(subject: Subject) -> str:
    domain = subject.domain
    if domain is None:
        return f"{subject.sender_domain} is not a domain of this project, so the email leaves without a DKIM signature"
    names = [f"{key.selector}._domainkey.{domain.name}" for key in domain.keys if key.state == domains.ACTIVE and key.algorithm == dkim.RSA]
    return "" if any(_record(subject, "TXT", name) for name in names) else "DKIM record not found for this domain"


def _spf(subject: Subject) -> str:
    name = subject.domain.name if subject.domain else subject.sender_domain
    return "" if _record(subject, "TXT", name) else "SPF record that names this relay not found for this domain"


def _dmarc(subject: Subject) -> str:
    name = subject.domain.name if subject.domain else subject.sender_domain
    return "" if _record(subject, "TXT", f"_dmarc.{name}") else "DMARC record not found for this domain"


def _alignment(subject: Subject) -> str:
    if subject.domain is None:
        return "neither DKIM nor SPF can align with the From domain, so DMARC fails where the domain has a policy"
    return "" if not (_dkim(subject) and _spf(subject)) else "neither DKIM nor SPF aligns with the From domain"


def _failed(subject: Subject) -> str:
    return "the domain was verified and its DNS record has gone" if subject.domain is not None and subject.domain.status == domains.FAILED else ""


def _no_ptr(subject: Subject) -> str:
    return f"{subject.nameless}, which this relay sends from, has no PTR record that leads back to it" if subject.nameless else ""


def _large_html(subject: Subject) -> str:
    return "HTML content exceeds 100KB which may cause clipping" if subject.html and len(subject.html.encode()) > CLIPPED else ""


def _no_text(subject: Subject) -> str:
    return "the email has HTML and no text part" if subject.html and not (subject.text or "").strip() else ""


def _unlisted(subject: Subject) -> str:
    return "a list-style email without List-Unsubscribe" if subject.bulk and not subject.listed else ""


def _heavy(subject: Subject) -> str:
    return f"the email has {subject.size // 1_000_000} MB; many receivers refuse more than 20 to 25" if subject.size > HEAVY else ""


def _hostless(subject: Subject) -> str:
    return _first(subject, "a link has no host", lambda link: ":" not in link.partition("/")[0] and not link.startswith("#") and bool(link.strip()))


def _plain_http(subject: Subject) -> str:
    return _first(subject, "a link is not encrypted", lambda link: link.lower().startswith("http://"))


def _placeholder(subject: Subject) -> str:
    return _first(subject, "a link has a placeholder left in it", lambda link: _PLACEHOLDER.search(link) is not None)


def _broken(subject: Subject) -> str:
    def bad(link: str) -> bool:
        try:
            return link.lower().startswith(("http:", "https:")) and not urlsplit(link).hostname
        except ValueError:
            return True
    return _first(subject, "a link names no host that could be reached", bad)


def _first(subject: Subject, text: str, bad: Callable[[str], bool]) -> str:
    return next((f"{text}: {link[:100]}" for link in subject.links if bad(link)), "")


def _no_alt(subject: Subject) -> str:
    bare = [image for image in _IMAGE.findall(subject.html or "") if not _ALT.search(image)]
    return f"{len(bare)} of the images have no alternative text" if bare else ""


def _spammy(subject: Subject) -> str:
    return f"the spam filter scored it {subject.spam:g}" if subject.spam is not None and subject.spam >= 5.0 else ""


_AUTH = "Gmail and Yahoo sender requirements, 2024"
CHECKS: tuple[Check, ...] = (
    Check("missing_dkim", "high", f"RFC 6376; {_AUTH}", "publish the dkim record of GET /domains/:id, then POST /domains/:id/verify", _dkim),
    Check("missing_spf", "medium", f"RFC 7208; {_AUTH}", "publish the spf record of GET /domains/:id", _spf),
    Check("missing_dmarc", "medium", f"RFC 7489; {_AUTH}", "publish the dmarc record of GET /domains/:id; p=none is enough to begin with", _dmarc),
    Check("dmarc_alignment", "high", "RFC 7489 §3.1", "send From the domain that signs, or a sub-domain of it", _alignment),
    Check("domain_failed", "high", "RFC 6376 §3.6.2", "publish the dkim record again; mail goes on meanwhile", _failed),
    Check("missing_ptr", "high", f"RFC 1912 §2.1, RFC 8601 §2.7.3; {_AUTH}",
          "ask who owns the address to set its PTR to the relay's host name; `relay check` looks again", _no_ptr),
    Check("missing_list_unsubscribe", "high", f"RFC 8058; {_AUTH}", "send with unsubscribe: true or a topic_id", _unlisted),
    Check("large_html", "low", "Gmail clips a message above 102 kB", "shorten it, or move styles and images out of the HTML", _large_html),
    Check("missing_text_body", "low", "RFC 2046 §5.1.4; SpamAssassin MIME_HTML_ONLY", "send a text beside the html", _no_text),
    Check("large_message", "medium", "RFC 1870; Gmail takes 25 MB, Outlook.com 20 MB", "link to the files instead of attaching them", _heavy),
    Check("link_placeholder", "high", "RFC 3986 §2", "give the template every variable it wants: POST /templates/:id/render lists them", _placeholder),
    Check("link_without_host", "medium", "RFC 3986 §4.2; a mail has no base to resolve it against", "write the whole URL, with https:// and host", _hostless),
    Check("link_broken", "medium", "RFC 3986 §3.2.2", "write the whole URL, with https:// and host", _broken),
    Check("link_not_https", "low", "spam filters and browsers warn of plain http", "use https:// links", _plain_http),
    Check("missing_alt", "low", "WCAG 2.2 §1.1.1; images are off in many programs", "give each img an alt text, alt=\"\" for decoration", _no_alt),
    Check("spam_score", "medium", "rspamd's symbols are in spam_warnings", "look at the symbols with the highest score", _spammy),
)


def of(subject: Subject) -> Iterator[Warning]:
    """The warnings of an email, in the order of the table."""
    for check in CHECKS:
        message = check.find(subject)
        if message:
            yield Warning(check.code, message, check.severity, check.rule, check.fix)


def links(document: str | None) -> tuple[str, ...]:
    """The targets of an HTML document's links."""
    if not document:
        return ()
    octets = document.encode("utf-8", "replace")
    return tuple(html.target(octets[link.start:link.end].decode("utf-8", "replace")) for link in html.scan(octets).links)


async def of_email(here: Relay, who: Principal, whole: Whole) -> Sequence[Warning]:
    """The warnings of an email of the ledger, with what DNS showed of its domain last."""
    from relay.api.emails import aside, texts

    row = whole.email.row
    rich, plain = await aside(whole, texts, whole.octets)
    bulk = row.stream == MARKETING or bool(row.topic)
    listed = bool(row.wishes.get("unsubscribe") or row.topic) or b"list-unsubscribe:" in _head(whole.octets or b"").lower()
    domain = await _domain(here, who, row.domain)
    subject = Subject(rich, plain, row.size, domain, row.domain, bulk, listed, row.facts.get("spam_score"), await aside(whole, links, rich),
                      await nameless(here))
    return await aside(whole, lambda: list(of(subject)))


def _head(octets: bytes) -> bytes:
    end = octets.find(b"\r\n\r\n")
    return octets[:end] if end >= 0 else octets


async def _domain(here: Relay, who: Principal, name: str) -> Domain | None:
    """The project's domain that this is or is a sub-domain of."""
    mine = {domain.name: domain for domain in await here.store.read(domains.by_project, who.project)}
    while name and name not in mine:
        name = name.partition(".")[2]
    return mine.get(name)


async def nameless(here: Relay) -> str:
    """The first of our public addresses whose PTR does not lead back to it (FCrDNS), "" where all do or nobody knows."""
    resolver, private = here.control.resolver, here.settings.delivery.allow_private
    try:
        async with asyncio.timeout(PATIENCE):
            for address in source.addresses(here.settings):
                known = private or ipaddress.ip_address(address).is_global  # behind NAT the world sees another one
                if known and not (await resolver.names(address)).failed and not await resolver.confirmed(address):
                    return address
    except TimeoutError:
        pass
    return ""
