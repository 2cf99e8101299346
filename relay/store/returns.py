"""What reports that came back by mail change in the ledger: a recipient who was delivered, and was not (RFC 3464).

A recipient that still waits (the remote took the message and its 250 was lost) ends by the report as by an attempt. One that was delivered becomes bounced or
failed. Any other end stays. Each report that says something adds an attempt of the phase `report`, so `relay explain` shows it; at most KEPT for a recipient,
since whoever has the mail has its token, and may say what they like as often as they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from relay.store import bulk, events, queue, reports
from relay.store.attempts import WORDS
from relay.store.attempts import row as attempt_row
from relay.store.bulk import clean
from relay.store.events import Event
from relay.store.messages import COMPLAINED, DELIVERED
from relay.store.queue import Settlement
from relay.store.schema import attempts, messages, recipients

PHASE = "report"  # of an attempt that is no attempt of ours but the word of a later hop
GUESS = "guess"  # the same, read out of free text: never evidence enough to suppress
KEPT = 10  # reports about one recipient that are recorded
ASKED = frozenset({"smtp", "sendmail"})  # protocols whose senders expect DSNs (RFC 3461)

_PERSON = select(recipients.c.state, recipients.c.notify, messages.c.protocol, messages.c.sender).join(messages, messages.c.id == recipients.c.message_id)


def heard(conn: Connection, recipient_id: int, results: Sequence[str] = ()) -> int:
    """How many reports about this recipient are on record, of these results (all without); locks the recipient on PostgreSQL."""
    bulk.present(conn, recipients, "id", [recipient_id])
    statement = select(func.count()).select_from(attempts).where(attempts.c.recipient_id == recipient_id, attempts.c.phase.in_((PHASE, GUESS)))
    return conn.scalar(statement.where(attempts.c.result.in_(list(results))) if results else statement) or 0


def note(conn: Connection, told: Settlement) -> None:
    """Put a report on record that changes no state: its attempt and its events."""
    _attempt(conn, told)
    events.append(conn, [Event(told.project_id, kind, told.at, told.message_id, told.recipient_id, data=data) for kind, data in told.events])


def settle(conn: Connection, told: Settlement) -> bool:
    """Whether the recipient ends by this report, as `told` says; else only the attempt is recorded. The submitter is told where they asked for it."""
    row = conn.execute(_PERSON.where(recipients.c.id == told.recipient_id)).one()
    if queue.settle_many(conn, [told])[0]:
        _tell(conn, told, row)
        return True
    if row.state != DELIVERED:
        return False
    words = {"code": told.reply.code, "enhanced": told.reply.enhanced[:12], "text": clean(told.reply.text, WORDS)}
    conn.execute(update(recipients).where(recipients.c.id == told.recipient_id).values(state=told.state, ended_at=told.at, **words))
    events.append(conn, [Event(told.project_id, kind, told.at, told.message_id, told.recipient_id, data=data) for kind, data in told.events])
    _tell(conn, told, row)
    return True


def complained(conn: Connection, recipient_id: int, at: float) -> bool:
    """Whether the recipient, who has the message, is now one who called it spam; one whose mail ended otherwise, or who had done so before, stays."""
    found = update(recipients).where(recipients.c.id == recipient_id, recipients.c.state == DELIVERED).values(state=COMPLAINED, ended_at=at)
    return conn.execute(found).rowcount == 1


def state(conn: Connection, recipient_id: int) -> str:
    """How the ledger says that the recipient ended, or that they wait."""
    return conn.scalar(select(recipients.c.state).where(recipients.c.id == recipient_id)) or ""


def pass_on(conn: Connection, told: Settlement, kind: str) -> bool:
    """Whether a success that a later hop reports is owed to the submitter, who asked for it (RFC 3461 §4.1); written as a report to send."""
    row = conn.execute(_PERSON.where(recipients.c.id == told.recipient_id)).one()
    if not _asks(row) or "SUCCESS" not in row.notify:
        return False
    _owe(conn, told, kind)
    return True


def _tell(conn: Connection, told: Settlement, row: Row[Any]) -> None:
    """A failure goes on to the submitter, whose reverse-path we replaced (A8), unless NOTIFY says otherwise (RFC 3461 §4.1)."""
    if _asks(row) and (not row.notify or "FAILURE" in row.notify):
        _owe(conn, told, "failed")


def _asks(row: Row[Any]) -> bool:
    return bool(row.sender) and row.protocol in ASKED


def _owe(conn: Connection, told: Settlement, kind: str) -> None:
    reports.add_rows(conn, [reports.row(conn.info["ids"].next(), told.message_id, told.recipient_id, kind, told.at)])


def _attempt(conn: Connection, told: Settlement) -> None:
    if told.attempt is not None:
        bulk.insert_new(conn, attempts, [attempt_row(told.attempt, conn.info["ids"].next(), told.recipient_id, told.message_id)])
