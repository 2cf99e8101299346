"""Nobody who must not be mailed is mailed: at RCPT, after DATA, and once more when the connection is ready (issue of consent, not of spam).

At RCPT only what stops everything is known (the fields that name topic or stream have not come yet): 550 with a clear text, or with
`[suppress] smtp = "accept"` a 250, and the recipient ends as suppressed. `apply` knows stream and topic and drops those whom a narrower entry stops.
In the depart chain it runs just before MAIL and reads the store, so that a suppression stops every copy that has not passed DATA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from relay.mail.message import TRANSACTIONAL, Envelope, Message, Principal, Recipient
from relay.mail.reply import Reply
from relay.metrics import counter
from relay.policy import Services, Suppression
from relay.policy import options as known

STOPPED = counter("suppressed_total", "Recipients who were not mailed because of a suppression, by its reason", "reason")
FRESH = 4_096  # recipients remembered between RCPT and DATA; beyond it they are just looked up again


def make(options: Mapping[str, Any], services: Services) -> Suppress:
    """Option `smtp` ("reject" | "accept") overrides the setting of [suppress]."""
    given = known(options, smtp=services.settings.suppress.smtp)
    return Suppress(services, given["smtp"] == "reject")


class Suppress:
    """The policy; remembers whom it has just looked up at RCPT, so that plain transactional mail is looked up once at the door."""

    def __init__(self, services: Services, reject: bool):
        self._find, self._among = services.suppressions.find, services.suppressions.among
        self._reject = reject
        self._fresh: set[int] = set()

    async def recipient(self, principal: Principal, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """550 for an address that gets no mail at all from this project."""
        if not self._reject or principal.kind == "system":
            return None
        found = await self._find(principal.project, recipient.key, TRANSACTIONAL, "")
        if found is not None:
            return _reply(recipient, found)
        self._remember(recipient)
        return None

    async def recipients(self, principal: Principal, asked: Sequence[tuple[Envelope, Recipient]]) -> Sequence[Reply | None]:
        """As `recipient`, with one look at the store for all of them."""
        if not self._reject or principal.kind == "system":
            return [None] * len(asked)
        found = await self._among(principal.project, [recipient.key for _, recipient in asked], TRANSACTIONAL, "")
        for _, recipient in asked:
            if recipient.key not in found:
                self._remember(recipient)
        return [_reply(recipient, found[recipient.key]) if recipient.key in found else None for _, recipient in asked]

    def _remember(self, recipient: Recipient) -> None:
        if len(self._fresh) >= FRESH:
            self._fresh.clear()
        self._fresh.add(recipient.id)

    async def apply_each(self, messages: Sequence[Message]) -> list[Message]:
        return [message if self._passed(message) else (await self.apply(message))[0] for message in messages]

    def _passed(self, message: Message) -> bool:
        """Whether all its recipients have just been looked up, which is all there is to plain mail; each look counts once."""
        people = [recipient.id for recipient in message.recipients]
        if message.wishes.stream != TRANSACTIONAL or message.wishes.topic or not self._fresh.issuperset(people):
            return False
        self._fresh.difference_update(people)
        return True

    async def apply(self, message: Message) -> Sequence[Message]:
        """The message without those it must not reach; none when nobody is left."""
        if message.principal.kind == "system":
            return (message,)
        wishes, plain = message.wishes, message.wishes.stream == TRANSACTIONAL and not message.wishes.topic
        kept = message
        for recipient in message.recipients:
            if recipient.id in self._fresh:
                self._fresh.remove(recipient.id)
                if plain:
                    continue
            found = await self._find(message.principal.project, recipient.key, wishes.stream, wishes.topic)
            if found is not None:
                kept = kept.drop(recipient, _reply(recipient, found)).noted("suppress", "dropped", f"{recipient.address}: {_why(found)}")
        return (kept,)


def _reply(recipient: Recipient, found: Suppression) -> Reply:
    """The refusal, counted."""
    STOPPED.labels(found.reason).inc()
    way = f'change the rule "{found.rule}" of the project' if found.rule else f"relay suppress remove {recipient.address}"
    return Reply(550, "5.7.1", f"<{recipient.address}> is suppressed: {_why(found)}; nothing was sent. To lift it: {way}")


def _why(found: Suppression) -> str:
    scope = "" if found.scope == "all" else f" ({found.scope})"
    return f"{found.reason}{scope} since {datetime.fromtimestamp(found.created_at, UTC):%Y-%m-%d}"
