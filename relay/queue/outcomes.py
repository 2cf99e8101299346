"""What came of it: an attempt's outcome changes its site, is counted and told in the log, and becomes a settlement on its way to the disk.

The courier says what happened; `settle` says what that means for the recipient, the rules of bounces what the site means by it. Nothing leaves that cannot be
recorded: at most 200 outcomes are unwritten (relay.queue.recorder).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from relay import log
from relay.bounces import Classification, Rules
from relay.consent import Terms
from relay.delivery.outcome import CONN_ERROR, DELIVERED, PERMFAIL, Outcome
from relay.errors import ConnectFailed
from relay.mail import ids
from relay.mail.message import Message, Recipient
from relay.mail.reply import Reply
from relay.queue import figures, settle
from relay.queue.evidence import Evidence
from relay.queue.recorder import Recorder
from relay.queue.site import FAILS, Site
from relay.queue.waiting import Turn, Waiting
from relay.store import sites as stored
from relay.store.queue import Settlement
from relay.store.writes import JOBS

if TYPE_CHECKING:
    from relay.queue.courier import Courier
    from relay.queue.runner import Runner

FLUSH = 60.0  # seconds that a page of expired recipients waits for its commit

LOG = log.get("queue")


class Outcomes:
    """Takes each outcome to its end. `delay_after`: seconds after which a delay is reported to those who asked for it."""

    def __init__(self, runner: Runner, rules: Rules, terms: Terms, delay_after: float):
        self.runner, self.clock, self.rules, self.delay_after = runner, runner.clock, rules, delay_after
        self.memory, self.dispatch = runner.memory, runner.dispatch
        self.recorder = Recorder(runner.store, self._committed, Evidence(rules, terms).record, runner.forget)
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def judge_by(self, rules: Rules, terms: Terms) -> None:
        """What outcomes mean from now on (SIGHUP)."""
        self.rules = rules
        self.recorder.record = Evidence(rules, terms).record

    async def recorder_room(self) -> None:
        if not self.recorder.ready:
            await self.recorder.room()

    def starts(self, turn: Turn) -> None:
        """An attempt begins."""
        figures.DUE_LAG.observe(self.clock.elapsed() - turn.since)

    def delayed(self, reason: str) -> None:
        figures.DELAYED.labels(reason).inc()

    # connections

    def connected(self, courier: Courier) -> None:
        """A connection stands. A site that was unreachable gets all its mail back into view."""
        site = courier.site
        if site.failures >= FAILS:
            LOG.info("site reachable again", site=site.name)
            site.connected()
            for place in site.places.values():
                if place.more:
                    self.memory.loader.want(place)
        site.connected()

    def connect_failed(self, courier: Courier, turn: Turn, message: Message, left: dict[int, Waiting], failure: ConnectFailed) -> None:
        """No connection. While others to the site stand it is only too many; else it is the outcome for this turn, and perhaps the site is unreachable."""
        site, now = courier.site, self.clock.elapsed()
        if site.open > 1 and failure.reply.transient and any(c.connection is not None for c in self.dispatch.couriers if c.site is site):
            site.refused(now)
            self.dispatch.put_back(courier, turn)
            return
        found = self.rules.classify(failure.reply, failure.mx, failure.phase)
        outcome = Outcome(0, PERMFAIL if failure.reply.permanent else CONN_ERROR, failure.reply, failure.phase, site.name, failure.mx, failure.address,
                          failure.source, failure.tls, failure.seconds)
        for recipient in message.recipients:
            self._record_refusal(left.pop(recipient.id), message, recipient, outcome, found, site.provider)
        if failure.reply.permanent:
            return
        if found.slows:
            self._slow(site, failure.reply, found)
        if site.failed(now):
            LOG.warning("site unreachable", site=site.name, reply=str(failure.reply), next_probe=round(site.probe_at - now))
            self.runner.spawn(self._expire(site, outcome))
            self.dispatch.park(site)

    async def _expire(self, site: Site, outcome: Outcome) -> None:
        """A failed probe is an attempt for all who wait there: those past their deadline end by it."""
        for place in list(site.places.values()):
            if place.more:
                while waiting := await self.memory.loader.overdue(place):
                    for each in waiting:
                        self.memory.hold(each)
                    await self.settle_all(waiting, outcome)
                    await self.recorder.flushed(FLUSH)

    # recipients

    def settled(self, courier: Courier, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome) -> None:
        """One recipient of a transaction."""
        site = courier.site
        if outcome.result == DELIVERED:
            now = self.clock.now()
            site.delivered()
            figures.delivered(site.provider, waiting.stream, outcome.reply, now - max(message.received_at, message.wishes.send_at or 0.0))
            figures.ended(waiting.attempts + 1, now - waiting.first_due)
            LOG.info("delivered", id=ids.public("em", message.id), to=recipient.address, mx=outcome.mx, reply=str(outcome.reply))
            self._record(waiting, settle.delivered(waiting, message, recipient, outcome, now))
            return
        found = self.rules.classify(outcome.reply, outcome.mx, outcome.phase)
        if outcome.reply.code == 421 or found.slows:
            self._slow(site, outcome.reply, found)
        else:
            self._react(site, outcome.reply, found)
        self._record_refusal(waiting, message, recipient, outcome, found, site.provider)

    async def settle_all(self, waiting: Iterable[Waiting], outcome: Outcome) -> None:
        """One outcome for many recipients, none of whom a courier has."""
        for each in waiting:
            each.out = True
            message = self.memory.bodies.get(each.message_id) or await self.memory.bodies.load(each.message_id)
            recipient = next((r for r in message.envelope.recipients if r.id == each.recipient_id), None) if message is not None else None
            if recipient is None:
                self.memory.drop(each)
            elif message.principal.mode == "test":
                self.simulated(each, recipient)
            else:
                await self.recorder_room()
                self._refused(each, message, recipient, outcome, "other")

    def unroutable(self, waiting: Waiting, message: Message, recipient: Recipient, reply: Reply) -> None:
        """The route went away between two connections."""
        outcome = Outcome(waiting.recipient_id, PERMFAIL if reply.permanent else CONN_ERROR, reply, "dns")
        self._refused(waiting, message, recipient, outcome, "other")

    def _refused(self, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, provider: str) -> None:
        self._record_refusal(waiting, message, recipient, outcome, self.rules.classify(outcome.reply, outcome.mx, outcome.phase), provider)

    def _record_refusal(self, waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, found: Classification, provider: str) -> None:
        now = self.clock.now()
        settlement = settle.refused(waiting, message, recipient, outcome, found, now, chance=self._random.random(), delay_after=self.delay_after)
        figures.refused(provider, outcome.reply, found.category, settlement.state)
        if settlement.state != "deferred":
            figures.ended(waiting.attempts + 1, now - waiting.first_due)
        LOG.info(settlement.state, id=ids.public("em", message.id), to=recipient.address, mx=outcome.mx, reply=str(outcome.reply), category=found.category,
                 next=round(settlement.due - now) if settlement.state == "deferred" else None)
        self._record(waiting, settlement)

    # sites

    def _slow(self, site: Site, reply: Reply, found: Classification) -> None:
        """The site says that it is too much."""
        site.refused(self.clock.elapsed())
        self._react(site, reply, found)

    def _react(self, site: Site, reply: Reply, found: Classification) -> None:
        now = self.clock.elapsed()
        for reaction in self.runner.shaping.reactions(site.name, reply, found.category):
            if site.react(reaction, now):
                self._remember(site, site.suspended - now, f"said {reply}"[:500])

    def _remember(self, site: Site, seconds: float, reason: str) -> None:
        """Keep a suspension over a restart."""
        now = self.clock.now()
        site.reason = reason
        LOG.warning("site suspended", site=site.name, seconds=round(seconds), reason=reason)
        self.runner.spawn(self.runner.store.write(stored.suspend, site.name, now + seconds, reason, False, now, lane=JOBS))
        self.dispatch.park(site)

    # stopped on our side

    def suppressed(self, waiting: Waiting, recipient: Recipient, reply: Reply) -> None:
        LOG.info("suppressed", id=ids.public("em", waiting.message_id), to=recipient.address, reply=str(reply))
        self._record(waiting, settle.suppressed(waiting, recipient, reply, self.clock.now()))

    def stopped(self, waiting: Waiting, message: Message, recipient: Recipient, reply: Reply) -> None:
        LOG.info("failed", id=ids.public("em", message.id), to=recipient.address, reply=str(reply))
        self._record(waiting, settle.stopped(waiting, message, recipient, reply, self.clock.now()))

    def postpone(self, waiting: Waiting, reply: Reply) -> None:
        self._record(waiting, settle.postponed(waiting, reply, self.clock.now(), self._random.random()))

    def simulated(self, waiting: Waiting, recipient: Recipient) -> None:
        self._record(waiting, settle.simulated(waiting, recipient, self.clock.now()))

    # to the disk

    def _record(self, waiting: Waiting, settlement: Settlement) -> None:
        """On its way to disk; until it is there the loader must not take it for waiting."""
        self.memory.release(waiting)
        figures.removed(settlement.state)
        self.recorder.add(settlement)
        if settlement.due:
            self.memory.loader.sooner(settlement.due)

    def _committed(self, settlements: Sequence[Settlement]) -> None:
        now = self.clock.now()
        for each in settlements:
            waiting = self.memory.known.pop(each.recipient_id, None)
            self.memory.loader.settled(each.recipient_id)
            if each.due and each.due <= now and waiting is not None:  # the store was slower than the wait
                place = self.memory.place(waiting.domain)
                place.more = True
                self.memory.loader.want(place)
