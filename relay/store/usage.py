"""How much was sent: recipients accepted, by project, month (UTC) and domain of From; counted in the transaction that accepts them.

Not counted: suppressed recipients, test keys, replays, what was refused, and our own reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Connection, select

from relay.mail.message import Message
from relay.store import bulk
from relay.store.schema import usage as table


@lru_cache(maxsize=64)
def _month(day: int) -> str:
    """ "2026-03" of a day since 1970. """
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m")


def count(conn: Connection, accepted: Sequence[tuple[Message, str]]) -> None:
    """Add these messages, each with the domain of its From."""
    sums: Counter[tuple[int, str, str]] = Counter()
    for message, domain in accepted:
        if message.principal.mode != "test" and message.principal.kind != "system" and message.envelope.recipients:
            sums[message.principal.project, _month(int(message.received_at // 86_400)), domain] += len(message.envelope.recipients)
    for (project, month, domain), sent in sorted(sums.items()):
        bulk.run(conn, _ADD[conn.dialect.name], (project, month, domain, sent))


_SQL = ("INSERT INTO usage (project_id, month, domain, sent) VALUES ({}, {}, {}, {}) "
        "ON CONFLICT (project_id, month, domain) DO UPDATE SET sent = usage.sent + excluded.sent")
_ADD = {"sqlite": _SQL.format("?", "?", "?", "?"), "postgresql": _SQL.format("$1", "$2", "$3", "$4")}


def of(conn: Connection, project: int, month: str) -> dict[str, int]:
    """Sent in a month, by domain of From."""
    found = conn.execute(select(table.c.domain, table.c.sent).where(table.c.project_id == project, table.c.month == month).order_by(table.c.domain))
    return {row.domain: row.sent for row in found}


