"""Which addresses are ours: the signed ones that we put on mail ourselves, and those at domains that take mail here. Everything else is refused at RCPT, so
nobody relays and nothing bounces later.

    unsub+TOKEN@       our hostname, and the mail_host of policies.unsubscribe    the token is made for one recipient (policies/unsubscribe.py)
    bounce+TOKEN@      the return-path host of a domain of the token's project    the same (policies/verp.py)
    reports+TOKEN@     our hostname, and the return-path host of the domain       the token is made for one domain (relay.control.records)
    feedback@, fbl@    our hostname                                               anybody's report about our mail, to be believed for the marks in it
    anybody@           a verified domain with inbound switched on                 any local part, or those of `inbound_addresses` without `catch_all`
    postmaster, abuse  our hostname                                               refused: nobody reads them here yet

RFC 5321 §4.5.1 wants postmaster taken. To accept it and read it nowhere would tell a lie to whoever writes there; a refusal sends them on to the domain's
owner. Run a mailbox for it on the host that your MX points to, if people are to write there.

Prefix and token are read in any letter case. A token that lies is 550 before anything is looked up; one that has expired says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from relay.errors import Expired, NotFound, Refuse
from relay.mail import address
from relay.mail.message import Recipient
from relay.mail.reply import Reply
from relay.mail.tokens import BOUNCE, ID, REPORTS, UNSUBSCRIBE, unpack
from relay.policy import Tokens
from relay.settings import Settings
from relay.store import domains, recipients
from relay.store.domains import Domain
from relay.store.inbound import mail, reports

DOMAIN, FEEDBACK = "domain", "feedback"  # kinds of mailboxes without a token
LOOPS = frozenset({"feedback", "fbl"})  # local parts to give to mailbox providers' feedback loops
KINDS = {"unsub": UNSUBSCRIBE, "bounce": BOUNCE, "reports": REPORTS}  # prefix of a local part -> kind of token
ROLES = frozenset({"postmaster", "abuse", "mailer-daemon"})

FORGED = Reply(550, "5.1.1", "this address is not one of ours")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address of ours.

    kind    UNSUBSCRIBE | BOUNCE | REPORTS | FEEDBACK | DOMAIN
    number  what the token was made for: the id of the recipient whose copy carried it, or of a domain; 0 without one
    host    as it was written to
    local   the local part, where there is no token
    """

    kind: str
    number: int
    host: str
    local: str = ""

    @property
    def signed(self) -> bool:
        return self.kind not in (DOMAIN, FEEDBACK)


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Reads addresses. `hosts` are our own names, lower-case A-labels: those that unsubscribe by mail is offered on."""

    tokens: Tokens
    hosts: Collection[str]

    def read(self, recipient: Recipient) -> Mailbox:
        """What is behind this address, as far as its token proves it; raises Refuse."""
        local = recipient.address.rpartition("@")[0]
        prefix, plus, token = local.partition("+")
        kind = KINDS.get(prefix.lower())
        try:
            return self._signed(recipient, kind, token) if kind is not None and plus else self._unsigned(recipient, local)
        except Refuse:
            if recipient.domain in self.hosts:
                raise
            return Mailbox(DOMAIN, 0, recipient.domain, local)  # a name like one of ours at a domain that may take any

    def _signed(self, recipient: Recipient, kind: str, token: str) -> Mailbox:
        if kind == UNSUBSCRIBE and recipient.domain not in self.hosts:
            raise Refuse(_relay(recipient.domain))
        return Mailbox(kind, self._number(kind, token), recipient.domain)

    def _number(self, kind: str, token: str) -> int:
        try:
            data = self.tokens.read(kind, token)
        except Expired:
            raise Refuse(Reply(550, "5.7.1", "this address has expired; it worked for a while after the message that named it")) from None
        except NotFound:
            raise Refuse(FORGED) from None
        if len(data) < ID:
            raise Refuse(FORGED)
        return unpack(data)[0]

    def _unsigned(self, recipient: Recipient, local: str) -> Mailbox:
        if recipient.domain not in self.hosts:
            return Mailbox(DOMAIN, 0, recipient.domain, local)
        if local.lower() in LOOPS:
            return Mailbox(FEEDBACK, 0, recipient.domain)
        if local.lower() in ROLES:
            raise Refuse(Reply(550, "5.1.1", f"nobody reads {local.lower()} on this host; write to the domain that the mail is from"))
        raise Refuse(Reply(550, "5.7.1", "no mailbox of this name takes mail here"))


def check(conn: Any, mailbox: Mailbox, proven: bool = True, hosts: Collection[str] = ()) -> None:
    """Raises Refuse for an address whose recipient or domain is no longer known, or whose host is none of that project's.

    proven  whether only verified domains take mail
    hosts   our own names

    A host counts as long as the domain names it, also while DNS does not show its MX: what is on its way shall arrive.
    """
    if mailbox.kind == DOMAIN:
        _served(conn, mailbox, proven)
    elif mailbox.kind == REPORTS:
        _reported(conn, mailbox, hosts)
    elif mailbox.kind != FEEDBACK:
        _sent(conn, mailbox)


def served(conn: Any, mailbox: Mailbox, proven: bool) -> Domain | None:
    """The domain that takes mail for this mailbox, or None."""
    domain = mail.serving(conn, mailbox.host, proven)
    return domain if domain is not None and _takes(domain, mailbox.local) else None


def _takes(domain: Domain, local: str) -> bool:
    """Whether a domain has this mailbox, whatever follows a plus. Postmaster and abuse are there always (RFC 5321 §4.5.1, RFC 2142)."""
    name = local.lower().partition("+")[0]
    return domain.settings.get("catch_all", True) or name in domain.settings.get("inbound_addresses", ()) or name in ROLES


def _served(conn: Any, mailbox: Mailbox, proven: bool) -> None:
    if mail.serving(conn, mailbox.host, proven) is None:
        raise Refuse(_relay(mailbox.host))
    if served(conn, mailbox, proven) is None:
        raise Refuse(Reply(550, "5.1.1", "there is no such mailbox"))


def _reported(conn: Any, mailbox: Mailbox, hosts: Collection[str]) -> None:
    try:
        project, _name = reports.owner(conn, mailbox.number)
    except NotFound:
        raise Refuse(FORGED) from None
    if mailbox.host not in hosts and not any(d.settings.get("return_path") == mailbox.host for d in domains.by_project(conn, project)):
        raise Refuse(_relay(mailbox.host))


def _sent(conn: Any, mailbox: Mailbox) -> None:
    try:
        addressee = recipients.get(conn, mailbox.number)
    except NotFound:
        raise Refuse(FORGED) from None
    if mailbox.kind == BOUNCE and not any(d.settings.get("return_path") == mailbox.host for d in domains.by_project(conn, addressee.project_id)):
        raise Refuse(_relay(mailbox.host))


def _relay(host: str) -> Reply:
    return Reply(550, "5.7.1", f"relaying denied: {host} is not served here")


def hosts(settings: Settings) -> frozenset[str]:
    """The names that mail to us may be written to: ours, and those that the unsubscribe policy puts on mail."""
    offered = (entry.get("mail_host") for entry in settings.policies.copy if entry.get("use") == "policies.unsubscribe")
    return frozenset(address.a_label(name) for name in (settings.hostname, *offered) if name)
