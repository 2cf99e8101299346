"""What an outcome means for its recipient: a Settlement for the record. Plain functions, tested as a table.

    outcome                          the recipient                            report (RFC 3461 §5.2)
    250 after the final dot          delivered                                relayed, where SUCCESS was asked for and the peer took over no DSN
    5yz                              bounced                                  failed, unless NOTIFY says otherwise
    4yz, lost, ambiguous, no answer  deferred to the time of its retry table  delayed, once, where DELAY was asked for and it is late
    the same, past the deadline      failed: expired                          failed, unless NOTIFY says otherwise
    stopped by a policy as it left   suppressed or failed                     -, failed

A refusal that says something of the address itself goes on the Settlement as its category (relay.queue.evidence draws the consequence).

Reports go only to those who can want one: mail that came by SMTP or sendmail with a reverse-path. A report never brings a report, since its own is null.
"""

from __future__ import annotations

from typing import Any

from relay import schedule
from relay.bounces import HARD, SOFT, WEARING, Classification
from relay.delivery.outcome import AMBIGUOUS, CONN_ERROR, DELIVERED, PERMFAIL, Outcome
from relay.mail import report
from relay.mail.message import Message, Recipient
from relay.mail.reply import Reply
from relay.queue.waiting import Waiting
from relay.store.attempts import Attempt
from relay.store.queue import Settlement

REPORTED = frozenset({"smtp", "sendmail"})  # protocols whose senders expect a DSN; the API's ask for events
ABOUT_ALL = frozenset({"data", "dot"})  # phases in which the server speaks of the message, to all its recipients at once
CLOSED = frozenset({"dns", "connect", "banner", "ehlo", "tls", "auth"})  # phases before a message was offered: nothing was refused but the connection

SIMULATED = Reply(250, "2.0.0", "simulated: a test key sends nothing")


def delivered(waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, now: float) -> Settlement:
    """It was taken."""
    reply = outcome.reply
    about = {"to": recipient.address, "code": reply.code, "enhanced": reply.enhanced, "text": reply.text, "mx": outcome.mx, "tls": outcome.tls}
    wanted = report.RELAYED if recipient.notify and "SUCCESS" in recipient.notify and not outcome.dsn_passed and _tells(message) else ""
    return Settlement(
        waiting.recipient_id, waiting.message_id, waiting.project, DELIVERED, reply, now, attempt(outcome, now),
        events=(("email.sent", {"to": recipient.address}), ("email.delivered", about)), report=wanted,
    )


def simulated(waiting: Waiting, recipient: Recipient, now: float) -> Settlement:
    """A test key's mail: the events of a delivery without one."""
    told = {"to": recipient.address, "test_mode": True}
    return Settlement(waiting.recipient_id, waiting.message_id, waiting.project, DELIVERED, SIMULATED, now,
                      events=(("email.sent", told), ("email.delivered", told)))


def refused(
    waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, found: Classification, now: float, *, chance: float, delay_after: float,
) -> Settlement:
    """It was not taken: bounced, deferred, or expired.

    found        what the reply means
    chance       uniform in [0, 1), for the jitter
    delay_after  seconds after which a delay report is due to those who asked for one
    """
    if outcome.result == PERMFAIL:
        return _bounced(waiting, message, recipient, outcome, found, now)
    kind, age = retry(waiting, outcome, found), max(0.0, now - waiting.first_due)
    attempts = waiting.attempts + schedule.counts(kind)
    wait = schedule.next_attempt(kind, attempts, age, waiting.stream, found.wait, waiting.retry)
    if wait is None:
        return _expired(waiting, message, recipient, outcome, found, now)
    warn = schedule.warns(recipient.notify, waiting.warned, age, delay_after) and _tells(message)
    due = now + schedule.spread(wait, chance)
    told = () if waiting.tried else (("email.deferred", {**_words(recipient, outcome, found), "next_attempt": due}),)
    return Settlement(
        waiting.recipient_id, waiting.message_id, waiting.project, "deferred", outcome.reply, now, attempt(outcome, now),
        due=due, attempts=attempts, retry=_kept(waiting, kind), warned=waiting.warned or warn, events=told, report=report.DELAYED if warn else "",
    )


def retry(waiting: Waiting, outcome: Outcome, found: Classification) -> str:
    """The table that decides when it is tried again.

    What was refused before a message was offered is no refusal of the message. A connection lost in the middle of one may be its fault, so it counts.
    """
    if outcome.phase in CLOSED:
        return schedule.SITE
    if found.retry in schedule.PACED:
        return found.retry
    if waiting.retry == schedule.OTP or outcome.result in (AMBIGUOUS, CONN_ERROR):
        return waiting.retry if waiting.retry == schedule.OTP else schedule.STANDARD
    return found.retry


def _kept(waiting: Waiting, kind: str) -> str:
    """The table that goes on the row: a paced wait interrupts the one before, it does not replace it."""
    return waiting.retry if kind in schedule.PACED or waiting.retry == schedule.OTP else kind


def _bounced(waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, found: Classification, now: float) -> Settlement:
    return Settlement(
        waiting.recipient_id, waiting.message_id, waiting.project, "bounced", outcome.reply, now, attempt(outcome, now),
        events=(("email.bounced", _words(recipient, outcome, found)),), report=_failure(message, recipient),
        category=found.category if found.category in (HARD, *WEARING) and _about(message, recipient, outcome) else "", rule=found.rule,
    )


def _expired(waiting: Waiting, message: Message, recipient: Recipient, outcome: Outcome, found: Classification, now: float) -> Settlement:
    told = {**_words(recipient, outcome, found), "reason": "expired"}
    return Settlement(
        waiting.recipient_id, waiting.message_id, waiting.project, "failed", outcome.reply, now, attempt(outcome, now),
        events=(("email.failed", told),), report=_failure(message, recipient),
        category=SOFT if found.category in (HARD, *WEARING) and _about(message, recipient, outcome) else "", rule=found.rule,
    )


def _about(message: Message, recipient: Recipient, outcome: Outcome) -> bool:
    """Whether the server spoke of this address: at its RCPT, or after the DATA of a message to it alone or in words that name it.

    What comes before is about us or the sender, and DNS may be wrong on our side: a domain that is not there costs nobody anything.
    """
    if outcome.phase in ABOUT_ALL:
        return len(message.recipients) == 1 or recipient.address.lower() in outcome.reply.text.lower()
    return outcome.phase == "rcpt"


def suppressed(waiting: Waiting, recipient: Recipient, reply: Reply, now: float) -> Settlement:
    """A policy took this recipient out as the message left; nothing was sent and nobody is told but by the event."""
    told = {"to": recipient.address, "reason": reply.text}
    return Settlement(waiting.recipient_id, waiting.message_id, waiting.project, "suppressed", reply, now, events=(("email.suppressed", told),))


def stopped(waiting: Waiting, message: Message, recipient: Recipient, reply: Reply, now: float) -> Settlement:
    """A policy refused the message for good as it left."""
    told = {"to": recipient.address, "code": reply.code, "enhanced": reply.enhanced, "text": reply.text, "reason": "refused by policy"}
    return Settlement(waiting.recipient_id, waiting.message_id, waiting.project, "failed", reply, now,
                      events=(("email.failed", told),), report=_failure(message, recipient))


def postponed(waiting: Waiting, reply: Reply, now: float, chance: float) -> Settlement:
    """Something on our side was not ready (a policy, a fault): no attempt was made and none is counted, and nothing expires by it."""
    age = min(max(0.0, now - waiting.first_due), schedule.HOUR)
    wait = schedule.next_attempt(schedule.SITE, waiting.attempts, age) or schedule.HOUR
    return Settlement(
        waiting.recipient_id, waiting.message_id, waiting.project, "deferred", reply, now,
        due=now + schedule.spread(wait, chance), attempts=waiting.attempts, retry=waiting.retry, warned=waiting.warned,
    )


def attempt(outcome: Outcome, now: float) -> Attempt:
    """The try as `relay explain` tells it."""
    o = outcome
    return Attempt(now - o.seconds, o.seconds, o.site, o.mx, o.address, o.source, o.tls, o.phase, o.result, o.reply,
                   tuple((step.policy, step.action, step.detail) for step in o.steps))


def _words(recipient: Recipient, outcome: Outcome, found: Classification) -> dict[str, Any]:
    reply = outcome.reply
    return {"to": recipient.address, "code": reply.code, "enhanced": reply.enhanced, "text": reply.text, "mx": outcome.mx, "category": found.category,
            "rule": found.rule}


def _tells(message: Message) -> bool:
    """Whether a report has somebody to go to."""
    return bool(message.envelope.sender) and message.origin.protocol in REPORTED


def _failure(message: Message, recipient: Recipient) -> str:
    """A failure is told unless NOTIFY is NEVER or a list without FAILURE (RFC 3461 §4.1)."""
    if not _tells(message) or (recipient.notify and "FAILURE" not in recipient.notify):
        return ""
    return report.FAILED
