"""Whether mail to an address has a chance, without sending any: its form, its domain in DNS, and what is known of domain and local part.

    deliverable     well formed, and its domain takes mail; whether the mailbox exists only a mail can tell
    undeliverable   malformed, or its domain does not exist or takes no mail
    risky           disposable, or a misspelling of a well-known domain
    unknown         DNS did not answer
"""

from __future__ import annotations

from dataclasses import dataclass

from disposable_email_domains import blocklist

from relay.audience.domains import FREE, meant
from relay.delivery.dns import Resolver
from relay.delivery.mx import exchangers
from relay.errors import Invalid, NoRoute
from relay.mail import address

DELIVERABLE, UNDELIVERABLE, RISKY, UNKNOWN = "deliverable", "undeliverable", "risky", "unknown"

_ROLES = """
    abuse accounts admin administrator billing careers contact dev devnull dns enquiries feedback finance ftp hello help helpdesk hostmaster hr info inquiries
    it jobs legal list listserv mail mailer-daemon marketing media news newsletter no-reply nobody noc noreply office orders postmaster press privacy purchasing
    recruitment registrar root sales security service shop spam staff subscribe support sysadmin tech unsubscribe usenet uucp webmaster www
"""
ROLES = frozenset(_ROLES.split())  # local parts that are a task, not a person (RFC 2142 and use)


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found. `suggestion` is the address that was probably meant; `reasons` are for people."""

    email: str
    syntax: bool
    mx: bool = False
    exists: bool = False  # the domain
    website: bool = False
    disposable: bool = False
    role: bool = False
    free: bool = False
    plus: bool = False
    suggestion: str | None = None
    unknown: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        if not self.syntax or not (self.mx or self.unknown):
            return UNDELIVERABLE
        if self.disposable or self.suggestion:
            return RISKY
        return UNKNOWN if self.unknown else DELIVERABLE

    @property
    def risk(self) -> str:
        """low | medium | high."""
        if self.result == UNDELIVERABLE or self.disposable:
            return "high"
        return "medium" if self.result != DELIVERABLE or self.role else "low"


async def validate(resolver: Resolver, email: str) -> Validation:
    """What can be said of an address; three DNS questions at most, whose answers are cached."""
    try:
        key = address.key(email.strip())
    except Invalid as error:
        return Validation(email, False, reasons=(error.text,))
    local, _, domain = key.rpartition("@")
    mx, exists, unknown, why = await _mail(resolver, domain)
    typo = meant(domain, dead=not mx and not unknown)
    known = {"disposable": not typo and _disposable(domain), "role": local.partition("+")[0].lower() in ROLES, "free": domain in FREE, "plus": "+" in local,
             "suggestion": f"{local}@{typo}" if typo else None}
    reasons = [text for text, said in (
        (f"{domain} gives throw-away addresses", known["disposable"]), (f"did they mean {known['suggestion']}?", typo),
        ("the address belongs to a task, not to a person", known["role"])) if said]
    website = exists and not domain.startswith("[") and (await resolver.lookup(domain, "A")).found
    return Validation(email, True, mx, exists, website, unknown=unknown, reasons=(*([why] if why else []), *reasons), **known)


async def _mail(resolver: Resolver, domain: str) -> tuple[bool, bool, bool, str]:
    """Whether the domain takes mail, exists, nobody knows; and why it does not. A literal needs no DNS."""
    if domain.startswith("["):
        return True, True, False, ""
    answer = await resolver.lookup(domain, "MX")
    try:
        found = exchangers(domain, answer)
    except NoRoute as error:
        return False, answer.status != "nxdomain", answer.failed, error.reply.text
    if answer.found:
        return True, True, False, ""
    addresses = [await resolver.lookup(found[0].host, kind) for kind in ("A", "AAAA")]
    if any(each.found for each in addresses):
        return True, True, False, ""
    return False, True, any(each.failed for each in addresses), f"the domain {domain} has no mail server"


def _disposable(domain: str) -> bool:
    """Whether the domain, or one that it is below, gives throw-away addresses."""
    labels = domain.split(".")
    return any(".".join(labels[start:]) in blocklist for start in range(len(labels) - 1))
