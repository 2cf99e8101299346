"""What workflows ask of contacts: of whom a rule is true, who wants no mail, who is next."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from relay.store import bulk
from relay.store.audience import contacts as people
from relay.store.audience import segments
from relay.store.audience.contacts import Filter
from relay.store.audience.rules import Rule
from relay.store.audience.schema import contacts
from relay.store.audience.segments import Read
from relay.store.broadcasts import ledger


def among(conn: Connection, project: int, rule: Rule, numbers: Sequence[int], now: float, read: Read) -> set[int]:
    """Of which of these contacts a rule is true now."""
    found: set[int] = set()
    asked = segments.where(conn, project, rule, now, read)
    for start in range(0, len(numbers), bulk.KEYS):
        query = select(contacts.c.id).where(contacts.c.project_id == project, contacts.c.id.in_(list(numbers[start:start + bulk.KEYS])), asked)
        found |= set(conn.scalars(query))
    return found


def refusals(conn: Connection, project: int, stream: str, topic: int | None, numbers: Sequence[int]) -> dict[int, str]:
    """Why each of these contacts gets no mail of a stream and topic, "" if it may."""
    found: dict[int, str] = {}
    for start in range(0, len(numbers), bulk.KEYS):
        query = select(contacts.c.id, ledger.refused(project, stream, topic)).where(
            contacts.c.project_id == project, contacts.c.id.in_(list(numbers[start:start + bulk.KEYS])))
        found |= {row[0]: row[1] for row in conn.execute(query)}
    return found


def following(conn: Connection, project: int, segment: int | None, after: int, until: int, limit: int, now: float, read: Read) -> list[int]:
    """The next contacts by id of a segment, or of all; raises NotFound."""
    if segment is not None:
        found = segments.members_after(conn, project, segment, after, limit, now, read)
    else:
        found = people.after(conn, project, after, Filter(), limit)
    return [each.id for each in found if each.id <= until]


def present(conn: Connection, numbers: Sequence[int]) -> set[int]:
    """Which of these contacts there are."""
    unique = sorted(set(numbers))
    return {row.id for start in range(0, len(unique), people.KEYS) for row in people.among(conn, unique[start:start + people.KEYS])}
