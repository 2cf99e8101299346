"""Takes mail whose sender counts: to a project's domains, and reports about them. SPF, DKIM and DMARC come first, then what the address is for.

Mail to domains is shown to rspamd then, where there is one: it may be the reason why a message is marked as spam, never why it is refused or waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from relay import log
from relay.clock import Clock
from relay.errors import Invalid, Refuse
from relay.inbound import pace, received, reports
from relay.inbound.authentication import Arrival, Authentication, Checks
from relay.inbound.mailboxes import DOMAIN, Mailbox
from relay.inbound.pace import Pace
from relay.inbound.received import Letter
from relay.mail import automatic, ids, traces
from relay.mail.header import Header, split
from relay.mail.ids import Maker
from relay.mail.message import Envelope
from relay.mail.reply import Reply
from relay.mail.tokens import REPORTS
from relay.metrics import counter
from relay.policy import Tokens
from relay.scoring import Score, Scorer, Unscored
from relay.smtp.desk import Session
from relay.store.engine import Store

LOG = log.get("inbound")
TAKEN = counter("inbound_total", "Mail to us by the kind of address and what came of it", "kind", "result")

TOO_MUCH = Reply(450, "4.7.1", "too much mail from this sender in an hour, try again later")


@dataclass(frozen=True, slots=True)
class Receiving:
    """`proven`: only verified domains take mail; `reject`: mail that its author's domain disowns is refused; `block`: score from which mail is spam."""

    store: Store
    tokens: Tokens
    checks: Checks
    pace: Pace
    clock: Clock
    maker: Maker
    hostname: str
    proven: bool
    reject: bool
    scorer: Scorer
    block: float

    async def refusal(self, session: Session, envelope: Envelope) -> Reply | None:
        """Why this sender may bring nothing more just now, or None; counted by recipient."""
        who = envelope.sender.lower() or pace.source(session.client)
        return self.store.intake_open() or (None if await self.pace.take(who, self.clock.elapsed()) else TOO_MUCH)

    async def check(self, session: Session, envelope: Envelope, content: bytes) -> Authentication:
        """What SPF, DKIM and DMARC say of who sent it; never raises."""
        try:
            fields, _ = split(content)
        except Invalid:  # a header too large is nobody's signature, and no reason to miss what the address alone says
            fields = Header()
        return await self.checks.check(Arrival(session.client, session.helo, envelope.sender), fields, content)

    async def take(self, session: Session, envelope: Envelope, content: bytes, boxes: Sequence[Mailbox], found: Authentication) -> None:
        """The message is where it belongs when this returns. Raises Refuse for what is refused for good, Defer and StoreError for now."""
        fields, _ = split(content)
        people = [box for box in boxes if box.kind == DOMAIN]
        if people and traces.looped(self.tokens.read, fields):
            raise Refuse(traces.LOOP)
        sign = automatic.answer(fields, envelope.sender) if people else ""
        if sign:
            TAKEN.labels(DOMAIN, "auto-reply").inc()
            LOG.info("auto-reply dropped", sign=sign, sender=envelope.sender, to=people[0].host, client=session.client)
            people = []
        about = [box for box in boxes if box.kind == REPORTS]
        if not people and not about:
            return
        if about:
            await self._report(fields, content, found, about)
        if people:
            score = await self._score(session, envelope, content)
            await self._keep(people, Letter(session, envelope.sender, content, self.clock.now(), found, score))

    async def _score(self, session: Session, envelope: Envelope, content: bytes) -> Score | Unscored:
        to = ",".join(each.address for each in envelope.recipients)
        return await self.scorer.score(content, {"From": envelope.sender, "Rcpt": to, "Ip": session.client, "Helo": session.helo})

    async def _report(self, fields: Header, content: bytes, found: Authentication, boxes: Sequence[Mailbox]) -> None:
        report = await asyncio.to_thread(reports.read, content)
        for box in boxes:
            result = await self.store.write(reports.keep, box.number, report, fields, content, found, self.maker, self.clock.now())
            TAKEN.labels(REPORTS, result).inc()
            LOG.info("report about a domain", domain=ids.public("dom", box.number), result=result, dmarc=found.dmarc.result)

    async def _keep(self, boxes: Sequence[Mailbox], letter: Letter) -> None:
        spam = received.verdict(letter.found, self.reject, letter.score, self.block)
        what = await asyncio.to_thread(received.opened, letter.content)
        numbers = [self.maker.next() for _ in boxes]
        kept = await self.store.write(received.keep, boxes, letter, what, spam, self.hostname, self.proven, numbers, size=len(letter.content))
        TAKEN.labels(DOMAIN, "new" if kept else "known").inc()
        told = {**letter.found.results(), "spam_score": letter.points}
        for each in kept:
            LOG.info("mail to a domain", id=each.public_id, domain=each.domain, sender=letter.sender, client=letter.session.client, size=each.size, **told)
