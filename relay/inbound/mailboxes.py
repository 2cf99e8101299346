"""Which addresses are ours: the signed ones that we put on mail ourselves. Everything else is refused at RCPT, so nobody relays and nothing bounces later.

    unsub+TOKEN@       our hostname, and the mail_host of policies.unsubscribe    the token is made for one recipient (policies/unsubscribe.py)
    bounce+TOKEN@      the return-path host of a domain of the token's project    the same (policies/verp.py)
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
from relay.mail.tokens import BOUNCE, ID, UNSUBSCRIBE, unpack
from relay.policy import Tokens
from relay.settings import Settings
from relay.store import domains, recipients

KINDS = {"unsub": UNSUBSCRIBE, "bounce": BOUNCE}  # prefix of a local part -> kind of token
ROLES = frozenset({"postmaster", "abuse", "mailer-daemon"})

FORGED = Reply(550, "5.1.1", "this address is not one of ours")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address of ours: `kind` UNSUBSCRIBE | BOUNCE, `number` the id of the recipient whose copy carried it, `host` as it was written to."""

    kind: str
    number: int
    host: str


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
        if kind is None or not plus:
            raise Refuse(self._elsewhere(recipient, local))
        if kind == UNSUBSCRIBE and recipient.domain not in self.hosts:
            raise Refuse(_relay(recipient))
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

    def _elsewhere(self, recipient: Recipient, local: str) -> Reply:
        if recipient.domain not in self.hosts:
            return _relay(recipient)
        if local.lower() in ROLES:
            return Reply(550, "5.1.1", f"nobody reads {local.lower()} on this host; write to the domain that the mail is from")
        return Reply(550, "5.7.1", "no mailbox of this name takes mail here")


def check(conn: Any, mailbox: Mailbox) -> None:
    """Raises Refuse for an address whose recipient the ledger no longer has, or that is no return path of that recipient's project.

    A host counts as long as the domain names it, also while DNS does not show its MX: what is on its way shall arrive.
    """
    try:
        addressee = recipients.get(conn, mailbox.number)
    except NotFound:
        raise Refuse(FORGED) from None
    if mailbox.kind == BOUNCE and not any(d.settings.get("return_path") == mailbox.host for d in domains.by_project(conn, addressee.project_id)):
        raise Refuse(Reply(550, "5.7.1", f"relaying denied: {mailbox.host} is not served here"))


def _relay(recipient: Recipient) -> Reply:
    return Reply(550, "5.7.1", f"relaying denied: {recipient.domain} is not served here")


def hosts(settings: Settings) -> frozenset[str]:
    """The names that mail to us may be written to: ours, and those that the unsubscribe policy puts on mail."""
    offered = (entry.get("mail_host") for entry in settings.policies.copy if entry.get("use") == "policies.unsubscribe")
    return frozenset(address.a_label(name) for name in (settings.hostname, *offered) if name)
