"""Emails by a part of an address or subject: a look at the recent ones, one by one, because no index helps with parts of texts (B19).

An index that did would be written with every email, for a question that is asked rarely. So a person is answered with one look of a bounded length, and told
how far back it went; the next look begins there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, exists, select, tuple_

from relay.store import search
from relay.store.schema import messages, recipients
from relay.store.search import MOST, Filter

BACK = 31 * 86_400.0  # seconds that are looked back
LOOKED_AT = 200_000  # newest emails that are looked at
WINDOW = 20_000  # emails of one look: some 20 ms


@dataclass(frozen=True, slots=True)
class Look:
    """The emails that one look found; it went back to `last` (an id) of the time `at` (UTC seconds), both None when there was nothing older."""

    found: frozenset[int]
    last: int | None = None
    at: float | None = None


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


def look(conn: Connection, project: int, subject: str, wanted: Filter, after: int | None = None, window: int = WINDOW) -> Look:
    """The project's emails with this in their subject, in any letter case, among the `window` that come next after the email `after`, newest first.

    wanted  its times say where the walk begins and ends; what else it asks for is not looked at
    """
    parts = [messages.c.project_id == project, *search.dates(wanted)]
    if after is not None:
        parts.append(search.after(conn, after))
    place = (messages.c.created_at, messages.c.id)
    order = tuple(column.desc() for column in place)
    edge = conn.execute(select(*place).where(*parts).order_by(*order).offset(window - 1).limit(1)).one_or_none()
    if edge is not None:
        parts.append(tuple_(*place) >= tuple_(*edge))
    found = conn.scalars(select(messages.c.id).where(*parts, messages.c.subject.icontains(subject, autoescape=True)).order_by(*order).limit(MOST))
    return Look(frozenset(found), *((edge.id, edge.created_at) if edge is not None else ()))
