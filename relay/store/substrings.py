"""Emails by a part of an address or subject: a look at the recent ones, one by one, because no index helps with parts of texts (B19)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, exists, select

from relay.store.schema import messages, recipients
from relay.store.search import MOST

BACK = 31 * 86_400.0  # seconds that are looked back
LOOKED_AT = 200_000  # newest emails that are looked at


def among(conn: Connection, project: int, parts: Mapping[str, str], now: float) -> frozenset[int]:
    """Up to MOST of the project's emails of the last BACK seconds that have all these parts, in any letter case: of `to`, `from`, `subject`."""
    recent = select(messages.c.id).where(messages.c.project_id == project, messages.c.created_at >= now - BACK)
    recent = recent.order_by(messages.c.created_at.desc(), messages.c.id.desc()).limit(LOOKED_AT)
    query = select(messages.c.id).where(messages.c.id.in_(recent))
    if parts.get("from"):
        query = query.where(messages.c.header_from.icontains(parts["from"], autoescape=True))
    if parts.get("subject"):
        query = query.where(messages.c.subject.icontains(parts["subject"], autoescape=True))
    if parts.get("to"):
        query = query.where(exists().where(recipients.c.message_id == messages.c.id, recipients.c.key.icontains(parts["to"], autoescape=True)))
    return frozenset(conn.scalars(query.order_by(messages.c.id.desc()).limit(MOST)))
