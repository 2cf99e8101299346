"""Scores a message with rspamd before it is queued: 5.0 warns, 10.0 refuses, and an rspamd that is away never holds up mail.

Asked once for the whole message, and once for a letter to many, whose copies bring its score along; relay.scoring is how. rspamd hears what it needs to judge
fairly: envelope, client and, for authenticated mail, the user (the same clean mail scores 2.4 without and -0.1 with it). What nobody has scored goes on,
counted as skipped, with the reason in its trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.errors import ConfigError, Refuse
from relay.mail import ids
from relay.mail.message import Decision, Message, replace
from relay.mail.reply import Reply
from relay.metrics import POLICY_DECISIONS
from relay.policy import Services
from relay.policy import options as known
from relay.scoring import MOST, OFF, Score, Scorer

REFUSED = Reply(550, "5.7.1", "Email rejected by spam filter")
SWITCHED_OFF = Decision("rspamd", "skipped", OFF.why)


def make(options: Mapping[str, Any], services: Services) -> Rspamd:
    """Options url, warn, block (scores) and timeout (seconds) override the settings of [rspamd]; an empty url switches it off."""
    settings = services.settings.rspamd
    given = known(options, url=settings.url, warn=settings.warn, block=settings.block, timeout=settings.timeout)
    for name in ("warn", "block", "timeout"):
        if isinstance(given[name], bool) or not isinstance(given[name], int | float):
            raise ConfigError(name, f"{given[name]!r} is not a number")
    return Rspamd(Scorer(services.fetch, services.clock, given["url"], given["timeout"]), given["warn"], given["block"])


class Rspamd:
    """The policy."""

    def __init__(self, scorer: Scorer, warn: float, block: float):
        self._scorer, self._warn, self._block = scorer, warn, block
        self.idle = SWITCHED_OFF if scorer.off else None
        self._skipped = POLICY_DECISIONS.labels("rspamd", "skipped")
        self._warned = POLICY_DECISIONS.labels("rspamd", "warned")

    async def apply(self, message: Message) -> Sequence[Message]:
        if message.principal.kind == "system" or not message.recipients:
            return (message,)
        if "spam_score" in message.facts:
            return (message.noted("rspamd", "skipped", "scored once for all copies of its letter"),)
        if message.size > MOST:
            self._skipped.inc()
            return (message.noted("rspamd", "skipped", f"larger than {MOST // 1_000_000} MB"),)
        found = await self._scorer.score(_shown(message), _told(message))
        if isinstance(found, Score):
            return (self._judge(message, found),)
        self._skipped.inc()
        return (message.noted("rspamd", "skipped", found.why),)

    def _judge(self, message: Message, found: Score) -> Message:
        """The message with its score; raises Refuse for spam."""
        if found.score >= self._block or found.action == "reject":
            raise Refuse(REFUSED, "spam_rejected")
        facts = {**message.facts, "spam_score": found.score, "spam_symbols": found.symbols, "spam_warnings": []}
        detail = f"{found.score:g} of {self._block:g}"
        if found.score < self._warn:
            return replace(message, facts=facts, trace=(*message.trace, Decision("rspamd", "passed", detail)))
        facts["spam_warnings"] = [symbol for symbol in found.symbols if symbol["score"] > 0]
        self._warned.inc()
        named = ", ".join(f"{symbol['name']} {symbol['score']:g}" for symbol in facts["spam_warnings"][:5])
        return replace(message, facts=facts, trace=(*message.trace, Decision("rspamd", "warned", f"{detail}: {named}")))


def _shown(message: Message) -> bytes:
    """The message as it would leave now: mail that waits for its time is dated ahead, which rspamd would take for a mark of spam (4 points)."""
    waits = (message.wishes.send_at or 0.0) > message.received_at
    return (message.with_header(message.header.dated(message.received_at)) if waits else message).octets()


def _told(message: Message) -> dict[str, str]:
    """What the wire knew, as relay.scoring wants it."""
    principal, origin = message.principal, message.origin
    return {
        "From": message.envelope.sender,
        "Rcpt": ",".join(recipient.address for recipient in message.recipients),
        "Ip": origin.client,
        "Helo": origin.helo,
        "User": (principal.name or f"key {principal.key_id}") if principal.kind in ("key", "local") else "",
        "Queue-Id": ids.public("em", message.id),
    }
