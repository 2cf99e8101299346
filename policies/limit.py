"""So many recipients an hour or a day, for a key and for its project; none by default, always a 4yz, so that nothing is lost.

Recipients are counted, not messages, because a limit guards the people who get the mail. A place is taken after DATA and given back when a later policy
refuses the message, the commit fails or it was a replay. Whoever has just been told to wait hears it at RCPT from then on, so that 25 MB are not sent in
vain again and again; that is remembered here and costs no look at the counters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import Defer, Refuse
from relay.mail.message import Decision, Envelope, Message, Principal, Recipient
from relay.mail.reply import Reply
from relay.policy import Services
from relay.policy import options as known

HOUR, DAY = 3_600.0, 86_400.0  # seconds
FULL = 10_000  # counters remembered as full; beyond it they are just asked again


def make(options: Mapping[str, Any], services: Services) -> Limit:
    """Options key_per_hour, key_per_day, project_per_hour, project_per_day override the settings of [limit]; 0 = no limit."""
    settings = services.settings.limit
    given = known(options, key_per_hour=settings.key_per_hour, key_per_day=settings.key_per_day,
                  project_per_hour=settings.project_per_hour, project_per_day=settings.project_per_day)
    rules = (Rule("key", "hour", given["key_per_hour"], HOUR), Rule("key", "day", given["key_per_day"], DAY),
             Rule("project", "hour", given["project_per_hour"], HOUR), Rule("project", "day", given["project_per_day"], DAY))
    return Limit(services, tuple(rule for rule in rules if rule.limit > 0))


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `limit` recipients of one "key" or "project" in `period` seconds, called `span` in texts."""

    of: str
    span: str
    limit: int
    period: float

    @property
    def each(self) -> str:
        """The period with its article, for texts."""
        return "an hour" if self.span == "hour" else "a day"

    def counter(self, principal: Principal) -> str:
        """The counter's name; "" for a principal without a key, which only its project limits."""
        number = principal.key_id if self.of == "key" else principal.project
        return "" if number is None else f"limit:{self.of}:{number}:{self.span}"


class Limit:
    """The policy."""

    def __init__(self, services: Services, rules: tuple[Rule, ...]):
        self._counters = services.counters
        self._clock = services.clock
        self._rules = rules
        self.idle = None if rules else Decision("limit", "passed")
        self._full: dict[str, tuple[float, int]] = {}  # counter to (elapsed() when there is room, recipients that did not fit)

    async def recipient(self, principal: Principal, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """450 where so many recipients have just not fitted; 452 4.5.3 for more than the limit lets one message have, so the client splits it."""
        for rule, name in self._counting(principal):
            if len(envelope.recipients) >= rule.limit:
                return Reply(452, "4.5.3", f"at most {rule.limit} recipients {rule.each}, send the rest in another message")
            until, amount = self._full.get(name, (0.0, 0))
            wait = until - self._clock.elapsed()
            if wait > 0 and len(envelope.recipients) + 1 >= amount:
                return _wait(450, rule, wait)
        return None

    async def apply(self, message: Message) -> Sequence[Message]:
        amount = len(message.recipients)
        taken: list[str] = []
        for rule, name in self._counting(message.principal) if amount else ():
            if amount > rule.limit:
                await self._give_back(taken, amount)
                text = f"{amount} recipients, and the limit of the {rule.of} is {rule.limit} {rule.each}; split the message"
                raise Refuse(Reply(550, "5.5.3", text), "send_limit_exceeded")
            wait = await self._counters.take(name, rule.limit, rule.period, amount)
            if wait > 0:
                await self._give_back(taken, amount)
                self._remember(name, wait, amount)
                raise Defer(_wait(452, rule, wait), wait, "rate_limit_exceeded")
            taken.append(name)
        return (message,)

    async def undo(self, message: Message) -> None:
        """Give back what `apply` took for a message that was not kept after all."""
        await self._give_back([name for _, name in self._counting(message.principal)], len(message.recipients))

    def _remember(self, name: str, wait: float, amount: int) -> None:
        if len(self._full) >= FULL:
            self._full.clear()
        self._full[name] = self._clock.elapsed() + wait, amount

    def _counting(self, principal: Principal) -> list[tuple[Rule, str]]:
        if not self._rules or principal.kind == "system":
            return []
        return [(rule, name) for rule in self._rules if (name := rule.counter(principal))]

    async def _give_back(self, names: Sequence[str], amount: int) -> None:
        for name in names if amount else ():
            self._full.pop(name, None)
            await self._counters.give_back(name, amount)


def _wait(code: int, rule: Rule, wait: float) -> Reply:
    return Reply(code, "4.7.1", f"the {rule.of} has sent its {rule.limit} recipients of this {rule.span}; try again in {math.ceil(wait)} seconds")
