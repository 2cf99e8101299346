"""Reports: delivery status notifications that are owed, written in the transaction of the outcome they tell (A11).

A row is there from the moment a recipient ends (or is delayed) until the DSN was accepted at the door under the key dsn:<recipient>:<kind>; a crash between
the two repeats a submission that the key makes harmless. Rows wait GATHER seconds, so that recipients who end together are told of in one DSN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, true, update

from relay.store import bulk
from relay.store.bulk import json
from relay.store.schema import attempts, queue, recipients, reports

GATHER = 2.0  # seconds in which further recipients of the same message may join


@dataclass(frozen=True, slots=True)
class Report:
    """One DSN to send: the recipients of a message of whom the same kind is to be told; `rows` are what `done` and `later` take."""

    message_id: int
    kind: str
    recipients: tuple[int, ...]
    rows: tuple[int, ...]


def row(number: int, message_id: int, recipient_id: int, kind: str, now: float) -> tuple[Any, ...]:
    """A row of the table."""
    return number, message_id, json([recipient_id]), kind, now, now + GATHER


def add_rows(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    bulk.insert(conn, reports, rows)


def due(conn: Connection, now: float, limit: int = 200) -> list[Report]:
    """The reports to send now, one for each message and kind, oldest first, made of at most `limit` rows."""
    statement = select(reports).where(reports.c.due <= now).order_by(reports.c.due, reports.c.id).limit(limit)
    grouped: dict[tuple[int, str], list[Any]] = {}
    for each in conn.execute(statement):
        grouped.setdefault((each.message_id, each.kind), []).append(each)
    return [
        Report(message_id, kind, tuple(number for r in rows for number in r.recipient_ids), tuple(r.id for r in rows))
        for (message_id, kind), rows in grouped.items()
    ]


def people(conn: Connection, report: Report) -> list[Row[Any]]:
    """Those whom the report tells about: recipient's row with `first_due` (None once it has ended), and `mx` and `at` of the last attempt."""
    found = []
    for number in report.recipients:
        tries = select(attempts.c.mx, attempts.c.at).where(attempts.c.recipient_id == number)
        last = tries.order_by(attempts.c.at.desc(), attempts.c.id.desc()).limit(1).subquery()
        statement = (
            select(recipients, queue.c.first_due, last.c.mx, last.c.at)
            .outerjoin(queue, queue.c.recipient_id == recipients.c.id).outerjoin(last, true()).where(recipients.c.id == number))
        found.extend(conn.execute(statement))
    return found


def next_due(conn: Connection) -> float | None:
    """UTC seconds at which the next report is due, or None."""
    return conn.scalar(select(reports.c.due).order_by(reports.c.due).limit(1))


def done(conn: Connection, rows: Iterable[int]) -> None:
    """These were submitted, or cannot be."""
    bulk.delete(conn, reports, "id", rows)


def later(conn: Connection, rows: Iterable[int], due_at: float) -> None:
    """Try these again at that time."""
    conn.execute(update(reports).where(reports.c.id.in_(list(rows))).values(due=due_at))
