"""What lets a report find the recipient it is about: a trace on every message that leaves, and a reverse-path of its own for each copy (VERP).

    Relay-Trace: TOKEN                 always; made for the recipient, or for the message where recipients share a copy
    bounce+TOKEN@ return-path host     as the reverse-path

The reverse-path only where such a bounce can come back: `[smtp] inbound` is set, and DNS shows the MX of the return-path host of the From domain (relay domain
list). Elsewhere the submitter's reverse-path stays and recipients share a transaction. The null reverse-path stays null, and our own reports keep theirs and
have no trace. The token of a path names the recipient, lasts 30 days from departure, survives mail servers that fold letters, and is the same in each attempt,
so greylisting knows it again. Its local part has 47 of the 64 octets allowed (RFC 5321 §4.5.3.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.errors import Invalid
from relay.mail import mailbox, traces
from relay.mail.message import Message, Recipient, replace
from relay.mail.tokens import BOUNCE, TRACE, pack
from relay.policy import Services, owner
from relay.policy import options as known

LIFE = 30 * 86_400.0  # seconds; mail servers give up after 5 days (RFC 5321 §4.5.4.1), and several may follow each other


def make(options: Mapping[str, Any], services: Services) -> Verp:
    known(options)
    return Verp(services)


class Verp:
    """The policy."""

    def __init__(self, services: Services):
        self._services = services
        self._listens = bool(services.settings.smtp.inbound)

    async def apply(self, message: Message) -> Sequence[Message]:
        if message.principal.kind == "system":
            return (message,)
        host = await self._host(message) if self._listens and message.envelope.sender else ""
        return tuple(self._copy(message, recipient, host) for recipient in message.recipients) if host else (self._traced(message),)

    async def _host(self, message: Message) -> str:
        """The return-path host of the domain that the message is from, "" without one."""
        domains = await self._services.domains.of(message.principal.project)
        if not any(domain.return_path for domain in domains.values()):
            return ""
        try:
            authors = mailbox.mailboxes(message.header.value(b"from"))
        except Invalid:
            return ""
        domain = owner(domains, authors[0].domain) if authors else None
        return domain.return_path if domain is not None else ""

    def _copy(self, message: Message, recipient: Recipient, host: str) -> Message:
        departs = max(message.received_at, message.wishes.send_at or 0.0)
        path = f"bounce+{self._services.tokens.make(BOUNCE, pack(recipient.id), departs + LIFE)}@{host}"
        copy = self._traced(replace(message, envelope=replace(message.envelope, sender=path, recipients=(recipient,))))
        return copy.noted("verp", "changed", f"bounces come back to {host}")

    def _traced(self, message: Message) -> Message:
        """The message with its trace on top; it never expires, for complaints come late, and the ledger says how long it means anything."""
        people = message.recipients
        data = pack(people[0].id) if len(people) == 1 else pack(message.id, traces.SHARED)
        return message.with_header(message.header.prepend(traces.field(self._services.tokens.make(TRACE, data))))

