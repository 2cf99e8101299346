"""Attempts: each try to deliver to a recipient, with what the remote said. Written once with the outcome, read by `relay explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from relay.mail.reply import Reply
from relay.store.bulk import clean, json
from relay.store.schema import attempts

WORDS = 4_000  # characters of a reply that are kept


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try.

    at, seconds  UTC seconds when it began, and how long it took
    phase        dns connect banner ehlo tls auth mail rcpt data dot
    result       delivered | tempfail | permfail | ambiguous | conn_error
    steps        (policy, action, detail) of the copy and depart chains
    id           0 = made by the store; given, a repeated write does nothing
    """

    at: float
    seconds: float
    site: str
    mx: str
    address: str
    source: str
    tls: str
    phase: str
    result: str
    reply: Reply
    steps: tuple[tuple[str, str, str], ...] = ()
    id: int = 0


def row(attempt: Attempt, number: int, recipient_id: int, message_id: int) -> tuple[Any, ...]:
    """The attempt as a row of the table."""
    a, reply = attempt, attempt.reply
    return (
        number, recipient_id, message_id, a.at, a.seconds, clean(a.site, 255), clean(a.mx, 255), a.address[:64], a.source[:64], clean(a.tls, 64),
        a.phase[:12], a.result, reply.code, reply.enhanced[:12], clean(reply.text, WORDS), json(a.steps),
    )


def last(conn: Connection, message_id: int, recipient_id: int) -> Attempt | None:
    """The latest try for a recipient."""
    made = select(attempts).where(attempts.c.message_id == message_id, attempts.c.recipient_id == recipient_id)
    r = conn.execute(made.order_by(attempts.c.at.desc(), attempts.c.id.desc()).limit(1)).first()
    return None if r is None else _attempt(r)


def of_message(conn: Connection, message_id: int, limit: int = 1_000) -> list[tuple[int, Attempt]]:
    """Recipient id and attempt, oldest first."""
    found = conn.execute(select(attempts).where(attempts.c.message_id == message_id).order_by(attempts.c.at, attempts.c.id).limit(limit))
    return [(r.recipient_id, _attempt(r)) for r in found]


def _attempt(r: Any) -> Attempt:
    reply, steps = Reply(r.code, r.enhanced, r.text), tuple(tuple(step) for step in r.steps)
    return Attempt(r.at, r.seconds, r.site, r.mx, r.address, r.source, r.tls, r.phase, r.result, reply, steps, r.id)
