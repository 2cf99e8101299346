"""One connection's life: connect, carry turns while the site allows it, wait a while for more, close.

A courier is a task. It asks the runner for its next turn and tells it what came of each; which site may have how many couriers is the runner's business. A
message passes the copy and depart chains when the connection is ready, so consent is read just before MAIL. The one broad `except` of the house is in
`_carry`: whatever goes wrong with one message defers that message, is logged with its id, and stops nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from relay import log
from relay.delivery.connection import Connection
from relay.delivery.outcome import CONN_ERROR, Job, Outcome
from relay.delivery.route import TlsRule
from relay.errors import ConnectFailed, Defer, NoRoute, Refuse
from relay.mail import ids
from relay.mail.message import Message, Recipient
from relay.mail.reply import Reply
from relay.metrics import counter, histogram
from relay.queue.site import Site
from relay.queue.waiting import Turn, Waiting
from relay.schedule import GREYLIST
from relay.store import attempts

if TYPE_CHECKING:
    from relay.queue.runner import Runner

PATIENT = 30.0  # seconds that a connection waits for the site's rate; for longer waits it is closed

LOG = log.get("queue")
FAULT = Reply(451, "4.3.0", "internal fault, trying again later")
UNREADABLE = Reply(451, "4.3.0", "the message cannot be read from the store just now")
CARRIED = histogram("deliveries_per_connection", "Messages carried by an outbound connection", buckets=(0, 1, 2, 5, 10, 20, 50, 100, 1000))
REUSED = counter("connection_reuse_total", "Messages that left on a connection that had carried one before")


class Courier:
    """Carries turns of one place of one site."""

    __slots__ = ("_given", "_timer", "carried", "connection", "key", "run_length", "runner", "site", "stale", "task")

    def __init__(self, runner: Runner, site: Site, key: str):
        self.runner, self.site, self.key = runner, site, key
        self.connection: Connection | None = None
        self.carried = 0  # transactions on the present connection
        self.stale = False  # its route may lead elsewhere now
        self.run_length = 0  # turns taken since it came to this place
        self.task: asyncio.Task[None] | None = None
        self._given: asyncio.Future[Turn | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, turn: Turn | None) -> None:
        """Until there is nothing to carry."""
        try:
            while turn is not None:
                turn = await self._serve(turn)
        finally:
            self._close()
            self.runner.dispatch.left(self)

    async def _serve(self, turn: Turn) -> Turn | None:
        """Carry one turn; the next one."""
        if not await self._carry(turn):
            return None
        self.run_length += 1
        following = self.runner.dispatch.following(self)
        if following is None and self.runner.dispatch.lingers(self):
            following = await self._wait()
        return following

    async def _carry(self, turn: Turn) -> bool:
        """Whether the courier can go on."""
        left = {each.recipient_id: each for each in turn.live()}
        for each in left.values():
            each.out = True
        try:
            message = self.runner.memory.bodies.get(turn.message_id) or await self.runner.memory.bodies.load(turn.message_id)
            with self.runner.memory.bodies.carried(message):
                return await self._carry_message(turn, message, left)
        except asyncio.CancelledError:
            raise
        except Exception as fault:
            LOG.error("delivery failed", id=ids.public("em", turn.message_id), exception=repr(fault), exc_info=fault)
            for waiting in left.values():
                self.runner.outcomes.postpone(waiting, FAULT)
            return False

    async def _carry_message(self, turn: Turn, message: Message | None, left: dict[int, Waiting]) -> bool:
        people = [] if message is None else [r for r in message.envelope.recipients if r.id in left]
        if message is None or len(people) < len(left):
            self._vanish(message, people, left)
        if not people:
            return True
        if message.principal.mode == "test":
            self._simulate(people, left)
            return True
        return await self._depart(turn, message.with_recipients(people) if len(people) < len(message.envelope.recipients) else message, left)

    def _vanish(self, message: Message | None, people: Sequence[Recipient], left: dict[int, Waiting]) -> None:
        """Recipients who are in memory and no longer wait in the store (cancelled this moment), or whose octets cannot be read."""
        if message is None:
            LOG.error("message cannot be read", id=ids.public("em", next(iter(left.values())).message_id))
        found = {r.id for r in people}
        for number in [n for n in left if n not in found]:
            waiting = left.pop(number)
            if message is None:
                self.runner.outcomes.postpone(waiting, UNREADABLE)
            else:
                self.runner.memory.drop(waiting)

    def _simulate(self, people: Sequence[Recipient], left: dict[int, Waiting]) -> None:
        for recipient in people:
            self.runner.outcomes.simulated(left.pop(recipient.id), recipient)

    async def _depart(self, turn: Turn, message: Message, left: dict[int, Waiting]) -> bool:
        """Connection, chains, transaction; False when the courier is to end."""
        try:
            if not await self._connected(turn, message, left):
                return False
            if not await self._granted(turn):
                return False
            await self.runner.outcomes.recorder_room()
            if self.runner.stopping or not self.connection.usable:  # it took a while; the next look makes a new connection
                self.runner.dispatch.put_back(self, turn)
                return not self.runner.stopping
            self.runner.outcomes.starts(turn)
            return await self._transactions(turn, message, left)
        except NoRoute as none:
            for recipient in message.recipients:
                self.runner.outcomes.unroutable(left.pop(recipient.id), message, recipient, none.reply)
            return False

    async def _connected(self, turn: Turn, message: Message, left: dict[int, Waiting]) -> bool:
        """A usable connection; or the failure is settled."""
        source = await self._source(left)
        if self.connection is not None and self.connection.usable and not self.stale and source in ("", self.connection.source):
            return True
        self._close()
        self.stale = False
        route = await self.runner.router.route(turn.domain)
        if route.site != self.site.name or route.key != self.key:
            self.runner.routing.moved(turn)
            return False
        self.site.provider = route.provider
        if self.site.limits.tls == "required" and route.tls.level == "opportunistic":
            route = replace(route, tls=TlsRule("required"))
        try:
            self.connection = await self.runner.connector.connect(route, source=source)
        except ConnectFailed as failure:
            self.runner.outcomes.connect_failed(self, turn, message, left, failure)
            return False
        self.carried = 0
        self.runner.outcomes.connected(self)
        return True

    async def _source(self, left: dict[int, Waiting]) -> str:
        """The source that a greylisting server knows this mail from: from another one its wait would begin anew. "" where any will do."""
        runner = self.runner
        tried = next((each for each in left.values() if each.tried), None) if runner.connector.addresses.sources > 1 else None
        last = None if tried is None else await runner.store.read(attempts.last, tried.message_id, tried.recipient_id)
        if last is None or runner.outcomes.rules.classify(last.reply, last.mx, last.phase).retry != GREYLIST:
            return ""
        return last.source

    async def _granted(self, turn: Turn) -> bool:
        """Wait for the site's rate; too long a wait gives the turn back."""
        while (wait := self.site.grant(self.runner.clock.elapsed())) > 0:
            self.runner.outcomes.delayed("rate")
            if wait > PATIENT or self.runner.stopping:
                self.runner.dispatch.put_back(self, turn)
                return False
            await asyncio.sleep(wait)
        return True

    async def _transactions(self, turn: Turn, message: Message, left: dict[int, Waiting]) -> bool:
        """One transaction for each message that the chains make of this one."""
        runner = self.runner
        try:
            copies = await runner.copy.apply(message) if runner.copy.policies else (message,)
            for copy in copies:
                for leaving in await runner.depart.apply(copy) if runner.depart.policies else (copy,):
                    for recipient, reply in leaving.dropped:
                        if recipient.id in left:
                            runner.outcomes.suppressed(left.pop(recipient.id), recipient, reply)
                    people = tuple(r for r in leaving.envelope.recipients if r.id in left and not left[r.id].gone)
                    if not people:
                        continue
                    if not self.connection.usable:
                        break
                    if len(people) < len(leaving.envelope.recipients):
                        leaving = leaving.with_recipients(people)
                    steps = leaving.trace[len(message.trace):]
                    self._settle(turn, message, people, left, [structs.replace(each, steps=(*steps, *each.steps)) for each in await self._deliver(leaving)])
        except Refuse as refusal:
            for recipient in message.recipients:
                if recipient.id in left:
                    runner.outcomes.stopped(left.pop(recipient.id), message, recipient, refusal.reply)
        except Defer as deferral:
            LOG.warning("departure deferred", id=ids.public("em", message.id), reply=str(deferral.reply), cause=repr(deferral.__cause__))
            for recipient in message.recipients:
                if recipient.id in left:
                    runner.outcomes.postpone(left.pop(recipient.id), deferral.reply)
        if left:
            turn.waiting = list(left.values())
            runner.dispatch.put_back(self, turn)
        return True

    async def _deliver(self, message: Message) -> list[Outcome]:
        if self.carried:
            REUSED.inc()
        self.carried += 1
        return await self.connection.deliver(Job.of(message))

    def _settle(self, turn: Turn, message: Message, people: Sequence[Recipient], left: dict[int, Waiting], outcomes: Sequence[Outcome]) -> None:
        """Tell the runner each outcome; a reused connection that died before it took anything is no attempt."""
        if self.carried > 1 and not turn.again and all(o.result == CONN_ERROR and o.phase in ("mail", "rcpt") for o in outcomes):
            turn.again = True
            return
        for recipient, outcome in zip(people, outcomes, strict=True):
            self.runner.outcomes.settled(self, left.pop(recipient.id), message, recipient, outcome)

    # waiting for more

    async def _wait(self) -> Turn | None:
        """The turn that is handed over, or None when none comes in the idle time."""
        loop = asyncio.get_running_loop()
        self._given = loop.create_future()
        self._timer = loop.call_later(self.site.limits.idle, self.give, None)
        self.run_length = 0
        self.runner.dispatch.rests(self)
        try:
            return await self._given
        finally:
            self._timer.cancel()
            self.runner.dispatch.wakes(self)
            self._given = None

    def give(self, turn: Turn | None) -> None:
        """Hand a turn to a courier that waits; None sends it home."""
        if self._given is not None and not self._given.done():
            self.runner.dispatch.wakes(self)
            self._given.set_result(turn)

    def _close(self) -> None:
        """Let the connection go."""
        if self.connection is not None:
            CARRIED.observe(self.carried)
            self.connection.close()
            self.connection = None
