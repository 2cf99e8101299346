"""The desk of the inbound listener: mail to us, for anybody who connects (RFC 5321 §3.6: no relaying, no promise that is broken later).

    MAIL    any reverse-path: a bounce has the null one, an unsubscribe that of a person
    RCPT    only addresses of ours (relay.inbound.mailboxes); everything else 550 5.7.1. Who brings too much without a token hears 450
    DATA    acts, and answers 250 after the commit; a fault of the store is 451 and the sender comes again, which does no harm

SPF, DKIM and DMARC are checked first, once for a message. An address with a token of ours is its own proof, so there the results are evidence and decide
nothing; in mail to domains and in reports about them the sender counts (relay.inbound.receiving). Nothing is ever answered by mail, so nothing can loop. It
runs in the main process, since all it does is write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay import log
from relay.clock import Clock
from relay.consent import Act
from relay.inbound import mailboxes, unsubscribe
from relay.inbound.authentication import Authentication
from relay.inbound.mailboxes import DOMAIN, FEEDBACK, Mailbox, Mailboxes
from relay.inbound.receiving import TAKEN, Receiving
from relay.inbound.returning import Returning
from relay.mail import ids
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Principal, Recipient
from relay.mail.reply import Reply
from relay.mail.tokens import BOUNCE, UNSUBSCRIBE
from relay.smtp.desk import Session
from relay.store.engine import Store

LOG = log.get("inbound")

Forget = Callable[[Iterable[int]], None]


@dataclass(frozen=True, slots=True)
class InboundDesk:
    """A desk for relay.smtp.server.Listener("inbound").

    native     settings.suppress.unsubscribe
    forget     tells the runner whose copies no longer wait
    returning  takes reports about our own mail
    receiving  takes mail to domains and reports about them
    """

    store: Store
    mailboxes: Mailboxes
    native: str
    clock: Clock
    maker: Maker
    forget: Forget
    returning: Returning
    receiving: Receiving

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        return None

    def sender(self, session: Session, envelope: Envelope) -> Reply | None:
        return None

    async def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | None:
        mailbox = self.mailboxes.read(recipient)
        await self.store.read(mailboxes.check, mailbox, self.receiving.proven, self.mailboxes.hosts)
        return None if mailbox.signed else await self.receiving.refusal(session, envelope)

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        boxes = list(dict.fromkeys(self.mailboxes.read(each) for each in envelope.recipients))
        found = await self.receiving.check(session, envelope, content)
        for mailbox in boxes:
            if mailbox.kind == UNSUBSCRIBE:
                await self._leave(session, mailbox, found)
            elif mailbox.kind == BOUNCE:
                await self.returning.bounced(session, mailbox.number, content, found)
            elif mailbox.kind == FEEDBACK:
                await self.returning.feedback(session, content, found)
        rest = [mailbox for mailbox in boxes if mailbox.kind not in (UNSUBSCRIBE, BOUNCE, FEEDBACK)]
        people = [mailbox for mailbox in rest if mailbox.kind == DOMAIN]
        if people and await self.returning.about_ours(session, envelope, content, people, found):
            rest = [mailbox for mailbox in rest if mailbox.kind != DOMAIN]
        if rest:
            await self.receiving.take(session, envelope, content, rest, found)
        return Reply(250, "2.0.0", "done")

    async def _leave(self, session: Session, mailbox: Mailbox, found: Authentication) -> None:
        act = Act(unsubscribe.SOURCE, session.client, at=self.clock.now(), more={"authentication": found.shown()})
        done = await unsubscribe.leave(self.store, mailbox.number, self.native, act, self.maker)
        self.forget(done.stopped)
        TAKEN.labels(mailbox.kind, "new" if done.new else "known").inc()
        LOG.info("unsubscribed by mail", id=ids.public("em", done.addressee.message_id), new=done.new, client=session.client,
                 **found.results())
