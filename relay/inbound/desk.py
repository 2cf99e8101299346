"""The desk of the inbound listener: mail to us, for anybody who connects (RFC 5321 §3.6: no relaying, no promise that is broken later).

    MAIL    any reverse-path: a bounce has the null one, an unsubscribe that of a person
    RCPT    only addresses of ours (relay.inbound.mailboxes) about a recipient that the ledger still has; everything else 550 5.7.1
    DATA    acts, and answers 250 after the commit; a fault of the store is 451 and the sender comes again, which does no harm

It runs in the main process, since all it does is write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay import log
from relay.clock import Clock
from relay.errors import NotFound, Refuse
from relay.inbound import unsubscribe
from relay.inbound.mailboxes import FORGED, Mailbox, Mailboxes
from relay.mail import ids
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Principal, Recipient
from relay.mail.reply import Reply
from relay.mail.tokens import UNSUBSCRIBE
from relay.metrics import counter
from relay.smtp.desk import Session
from relay.store.engine import Store
from relay.store.recipients import get

LOG = log.get("inbound")
TAKEN = counter("inbound_total", "Mail to us by the kind of address", "kind")

Forget = Callable[[Iterable[int]], None]


class InboundDesk:
    """A desk for relay.smtp.server.Listener("inbound").

    native  settings.suppress.unsubscribe
    forget  tells the runner whose copies no longer wait
    """

    def __init__(self, store: Store, mailboxes: Mailboxes, native: str, clock: Clock, maker: Maker, forget: Forget):
        self._store, self._mailboxes, self._native, self._clock, self._maker, self._forget = store, mailboxes, native, clock, maker, forget

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        return None

    def sender(self, session: Session, envelope: Envelope) -> Reply | None:
        return None

    async def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | None:
        await self._found(self._mailboxes.read(recipient))
        return None

    async def _found(self, mailbox: Mailbox) -> None:
        """Raises Refuse for an address whose recipient the ledger no longer knows."""
        try:
            await self._store.read(get, mailbox.number)
        except NotFound:
            raise Refuse(FORGED) from None

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        for mailbox in dict.fromkeys(self._mailboxes.read(each) for each in envelope.recipients):
            await self._act(session, mailbox, content)
            TAKEN.labels(mailbox.kind).inc()
        return Reply(250, "2.0.0", "done")

    async def _act(self, session: Session, mailbox: Mailbox, content: bytes) -> None:
        if mailbox.kind == UNSUBSCRIBE:
            done = await unsubscribe.leave(self._store, mailbox.number, self._native, session.client, self._clock.now(), self._maker)
            self._forget(done.stopped)
            LOG.info("unsubscribed by mail", id=ids.public("em", done.addressee.message_id), new=done.new, client=session.client)
