"""Takes mail whose sender counts: to a project's domains, and reports about them. SPF, DKIM and DMARC come first, then what the address is for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay import log
from relay.clock import Clock
from relay.inbound import pace, received, reports
from relay.inbound.authentication import Arrival, Authentication, Checks
from relay.inbound.mailboxes import DOMAIN, Mailbox
from relay.inbound.pace import Pace
from relay.inbound.received import Letter
from relay.mail import automatic, ids
from relay.mail.header import Header, split
from relay.mail.ids import Maker
from relay.mail.message import Envelope
from relay.mail.reply import Reply
from relay.mail.tokens import REPORTS
from relay.metrics import counter
from relay.smtp.desk import Session
from relay.store.engine import Store

LOG = log.get("inbound")
TAKEN = counter("inbound_total", "Mail to us by the kind of address and what came of it", "kind", "result")

TOO_MUCH = Reply(450, "4.7.1", "too much mail from this sender in an hour, try again later")


@dataclass(frozen=True, slots=True)
class Receiving:
    """`proven`: only verified domains take mail; `reject`: mail that its author's domain disowns is refused."""

    store: Store
    checks: Checks
    pace: Pace
    clock: Clock
    maker: Maker
    hostname: str
    proven: bool
    reject: bool

    def refusal(self, session: Session, envelope: Envelope) -> Reply | None:
        """Why this sender may bring nothing more just now, or None; counted by recipient."""
        who = envelope.sender.lower() or pace.source(session.client)
        return self.store.intake_open() or (None if self.pace.take(who, self.clock.elapsed()) else TOO_MUCH)

    async def take(self, session: Session, envelope: Envelope, content: bytes, boxes: Sequence[Mailbox]) -> None:
        """The message is where it belongs when this returns. Raises Refuse for what is refused for good, Defer and StoreError for now."""
        fields, _ = split(content)
        people = [box for box in boxes if box.kind == DOMAIN]
        sign = automatic.answer(fields, envelope.sender) if people else ""
        if sign:
            TAKEN.labels(DOMAIN, "auto-reply").inc()
            LOG.info("auto-reply dropped", sign=sign, sender=envelope.sender, to=people[0].host, client=session.client)
            people = []
        about = [box for box in boxes if box.kind == REPORTS]
        if not people and not about:
            return
        found = await self.checks.check(Arrival(session.client, session.helo, envelope.sender), fields, content)
        if about:
            await self._report(fields, content, found, about)
        if people:
            await self._keep(people, Letter(session, envelope.sender, content, self.clock.now(), found))

    async def _report(self, fields: Header, content: bytes, found: Authentication, boxes: Sequence[Mailbox]) -> None:
        report = await asyncio.to_thread(reports.read, content)
        for box in boxes:
            result = await self.store.write(reports.keep, box.number, report, fields, content, found, self.maker, self.clock.now())
            TAKEN.labels(REPORTS, result).inc()
            LOG.info("report about a domain", domain=ids.public("dom", box.number), result=result, dmarc=found.dmarc.result)

    async def _keep(self, boxes: Sequence[Mailbox], letter: Letter) -> None:
        spam = received.verdict(letter.found, self.reject)
        what = await asyncio.to_thread(received.opened, letter.content)
        numbers = [self.maker.next() for _ in boxes]
        kept = await self.store.write(received.keep, boxes, letter, what, spam, self.hostname, self.proven, numbers, size=len(letter.content))
        TAKEN.labels(DOMAIN, "new" if kept else "known").inc()
        told: dict[str, Any] = {"spf": letter.found.spf.result, "dkim": [each.result for each in letter.found.dkim], "dmarc": letter.found.dmarc.result}
        for each in kept:
            LOG.info("mail to a domain", id=each.public_id, domain=each.domain, sender=letter.sender, client=letter.session.client, size=each.size, **told)
