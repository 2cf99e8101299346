"""Scores a message with rspamd before it is queued: 5.0 warns, 10.0 refuses, and an rspamd that is away never holds up mail.

Asked once for the whole message, and once for a letter to many, whose copies bring its score along. It speaks rspamd's own HTTP protocol (`POST
/checkv2`), with what it needs to judge fairly: envelope, client and, for authenticated mail, the user (the same clean mail scores 2.4 without and -0.1
with it). No answer within `timeout` means scored by nobody: the message
goes on, counted as skipped; after three such in a row rspamd is left alone for ten seconds, so that a hanging one costs three timeouts and not one
for each message. `is_skipped` in an answer is not that: GTUBE answers reject, 15.0, is_skipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from relay.errors import ConfigError, Refuse
from relay.mail import ids
from relay.mail.message import Decision, Message, replace
from relay.mail.reply import Reply
from relay.metrics import POLICY_DECISIONS, counter, histogram
from relay.policy import Services
from relay.policy import options as known

FAILURES = 3  # in a row, before rspamd is left alone
PAUSE = 10.0  # seconds it is left alone
SYMBOLS = 50  # kept of an answer, the weightiest
TEXT = 200  # characters kept of a description

REQUESTS = counter("rspamd_requests_total", "Messages that rspamd was asked about, by what came of it: scored or failed", "result")
SECONDS = histogram("rspamd_seconds", "How long rspamd took to answer, or we to give up", buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0))
SCORE = histogram("rspamd_score", "Scores of messages", buckets=(-5.0, 0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0))
REFUSED = Reply(550, "5.7.1", "Email rejected by spam filter")


def make(options: Mapping[str, Any], services: Services) -> Rspamd:
    """Options url, warn, block (scores) and timeout (seconds) override the settings of [rspamd]; an empty url switches it off."""
    settings = services.settings.rspamd
    given = known(options, url=settings.url, warn=settings.warn, block=settings.block, timeout=settings.timeout)
    for name in ("warn", "block", "timeout"):
        if isinstance(given[name], bool) or not isinstance(given[name], int | float):
            raise ConfigError(name, f"{given[name]!r} is not a number")
    return Rspamd(services, given["url"], given["warn"], given["block"], given["timeout"])


class Rspamd:
    """The policy; counts failures in this process only, since each worker has its own way to rspamd."""

    def __init__(self, services: Services, url: str, warn: float, block: float, timeout: float):
        self._fetch = services.fetch
        self._clock = services.clock
        self._url = f"{url.rstrip('/')}/checkv2" if url else ""
        self._warn, self._block, self._timeout = warn, block, timeout
        self._failures = 0
        self._paused_until = -math.inf  # elapsed()
        self._skipped = POLICY_DECISIONS.labels("rspamd", "skipped")
        self._warned = POLICY_DECISIONS.labels("rspamd", "warned")

    async def apply(self, message: Message) -> Sequence[Message]:
        if not self._url or message.principal.kind == "system" or not message.recipients:
            return (message,)
        if "spam_score" in message.facts:
            return (message.noted("rspamd", "skipped", "scored once for all copies of its letter"),)
        if self._clock.elapsed() < self._paused_until:
            return (self._skip(message, "rspamd did not answer lately"),)
        try:
            with SECONDS.time():
                answer = _parse(*await self._fetch.post(self._url, _shown(message), _told(message), self._timeout))
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            REQUESTS.labels("failed").inc()
            return (self._failed(message, error),)
        REQUESTS.labels("scored").inc()
        SCORE.observe(answer["score"])
        self._failures = 0
        return (self._judge(message, answer),)

    def _judge(self, message: Message, answer: dict[str, Any]) -> Message:
        """The message with its score; raises Refuse for spam."""
        score, action = round(answer["score"], 2), str(answer.get("action", ""))
        if score >= self._block or action == "reject":
            raise Refuse(REFUSED, "spam_rejected")
        symbols = _symbols(answer.get("symbols"))
        facts = {**message.facts, "spam_score": score, "spam_symbols": symbols, "spam_warnings": []}
        detail = f"{score:g} of {self._block:g}"
        if score < self._warn:
            return replace(message, facts=facts, trace=(*message.trace, Decision("rspamd", "passed", detail)))
        facts["spam_warnings"] = [symbol for symbol in symbols if symbol["score"] > 0]
        self._warned.inc()
        named = ", ".join(f"{symbol['name']} {symbol['score']:g}" for symbol in facts["spam_warnings"][:5])
        return replace(message, facts=facts, trace=(*message.trace, Decision("rspamd", "warned", f"{detail}: {named}")))

    def _failed(self, message: Message, error: Exception) -> Message:
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures, self._paused_until = 0, self._clock.elapsed() + PAUSE
        return self._skip(message, f"no answer: {str(error) or 'it took too long'}")

    def _skip(self, message: Message, why: str) -> Message:
        self._skipped.inc()
        return message.noted("rspamd", "skipped", why)


def _shown(message: Message) -> bytes:
    """The message as it would leave now: mail that waits for its time is dated ahead, which rspamd would take for a mark of spam (4 points)."""
    waits = (message.wishes.send_at or 0.0) > message.received_at
    return (message.with_header(message.header.dated(message.received_at)) if waits else message).octets()


def _told(message: Message) -> dict[str, str]:
    """The request's header: what the wire knew (rspamd's HTTP protocol); recipients as one comma list, which it reads as several fields."""
    principal, origin = message.principal, message.origin
    told = {
        "From": message.envelope.sender,
        "Rcpt": ",".join(recipient.address for recipient in message.recipients),
        "Ip": origin.client,
        "Helo": origin.helo,
        "User": (principal.name or f"key {principal.key_id}") if principal.kind in ("key", "local") else "",
        "Queue-Id": ids.public("em", message.id),
    }
    return {name: _plain(value) for name, value in told.items() if value}


def _plain(value: str) -> str:
    """The value without what no HTTP field may hold; UTF-8 is rspamd's own reading of it."""
    return "".join(c for c in value if c >= " " and c != "\x7f")


def _parse(status: int, body: bytes) -> dict[str, Any]:
    """The answer's object, whose score is a finite number; raises ValueError for anything else."""
    if status != 200:
        raise ValueError(f"HTTP status {status}")
    answer = json.loads(body)
    score = answer.get("score") if isinstance(answer, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError("an answer without a score")
    return answer


def _symbols(found: Any) -> list[dict[str, Any]]:
    """What weighed, the weightiest first: [{name, score, description}]."""
    rows = []
    for name, symbol in found.items() if isinstance(found, dict) else ():
        score = symbol.get("score") if isinstance(symbol, dict) else None
        if isinstance(score, int | float) and score:
            rows.append({"name": name[:TEXT], "score": round(score, 2), "description": str(symbol.get("description") or "")[:TEXT]})
    rows.sort(key=lambda row: -abs(row["score"]))
    return rows[:SYMBOLS]
