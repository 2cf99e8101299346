"""What contacts agreed to and took back: one row for each change of consent, with time, source and evidence; and the opt-outs that outlive them.

A deleted contact leaves no address here, only a hash of its normal form under a secret of ours: enough to know it again when it is imported or created anew,
and to keep what the person said.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from relay.store import bulk, pages
from relay.store.audience.schema import contact_history as table
from relay.store.audience.schema import optouts
from relay.store.pages import Found, Page
from relay.store.upsert import insert

NEAR = 0.0015  # seconds; an export tells milliseconds


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of consent.

    act  created | subscribed | unsubscribed | topic_subscribed | topic_unsubscribed | snoozed | snooze_ended
    at   UTC seconds

    The id is given by the store.
    """

    contact_id: int
    at: float
    act: str
    source: str
    evidence: dict[str, Any]


def append(conn: Connection, entries: Sequence[Entry]) -> None:
    following = conn.info["ids"].next
    bulk.insert(conn, table, [(following(), e.contact_id, e.at, e.act, e.source, bulk.json(e.evidence)) for e in entries])


def paged(conn: Connection, contact: int, which: Page) -> Found:
    """A page of a contact's history, newest first."""
    query = select(table.c.id, *(table.c[name] for name in Entry.__slots__)).where(table.c.contact_id == contact)
    found = pages.take(conn, query, table.c.id, which)
    return Found([Entry(*row[1:]) for row in found.rows], found.total, found.last)


def restore(conn: Connection, entries: Sequence[Entry]) -> None:
    """Write entries as another store told them; what is there already stays once, and what only the import of their contacts wrote becomes what they say."""
    whose = sorted({entry.contact_id for entry in entries})
    rows = conn.execute(select(table.c.id, *(table.c[name] for name in Entry.__slots__)).where(table.c.contact_id.in_(whose)).order_by(table.c.id))
    there: dict[int, list[tuple[int, Entry]]] = {}
    for number, *row in rows:
        there.setdefault(row[0], []).append((number, Entry(*row)))
    gone, new = [], []
    for entry in entries:
        standing = there.get(entry.contact_id, [])
        found = next((each for each in standing if _same(each[1], entry)), None) or next((each for each in standing if _echoes(each[1], entry)), None)
        if found is not None:
            standing.remove(found)
            if found[1].evidence == entry.evidence and found[1].source == entry.source:
                continue
            gone.append(found[0])
        new.append(entry)
    if gone:
        conn.execute(delete(table).where(table.c.id.in_(gone)))
    append(conn, new)


def _same(standing: Entry, entry: Entry) -> bool:
    """Whether both are one act, at a time to the millisecond."""
    return (standing.act, standing.source, _topic(standing)) == (entry.act, entry.source, _topic(entry)) and abs(standing.at - entry.at) < NEAR


def _echoes(standing: Entry, entry: Entry) -> bool:
    """Whether an import wrote this because of what the entry tells: the opt-out that its row had, or, later, that the contact was made."""
    if standing.act != entry.act or standing.source != "import" or "import_id" not in standing.evidence:
        return False
    return abs(standing.at - entry.at) < NEAR or (entry.act == "created" and standing.at > entry.at)


def _topic(entry: Entry) -> Any:
    return entry.evidence.get("topic_id")


def last(conn: Connection, contact: int, acts: Sequence[str]) -> Entry | None:
    """The newest of these acts on a contact."""
    query = select(*(table.c[name] for name in Entry.__slots__)).where(table.c.contact_id == contact, table.c.act.in_(list(acts)))
    row = conn.execute(query.order_by(table.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Entry(*row)


def hashed(key: str, secret: bytes) -> str:
    """What stands for an address after it is forgotten."""
    return hmac.digest(secret, key.encode(), "sha256").hex()


def forget(conn: Connection, project: int, hashes: Sequence[str], scopes: Sequence[str], at: float) -> None:
    """Remember that whoever these hashes stand for, by the newest secret first, had opted out of these scopes, and of no others that were known before."""
    conn.execute(delete(optouts).where(optouts.c.project_id == project, optouts.c.hash.in_(list(hashes)), optouts.c.scope.not_in(list(scopes))))
    for scope in scopes:
        row = insert(conn, optouts).values(project_id=project, hash=hashes[0], scope=scope, at=at)
        conn.execute(row.on_conflict_do_nothing(index_elements=["project_id", "hash", "scope"]))


def remembered(conn: Connection, project: int, hashes: Sequence[str]) -> dict[str, set[str]]:
    """The scopes that people behind these hashes had opted out of."""
    found: dict[str, set[str]] = {}
    for row in conn.execute(select(optouts.c.hash, optouts.c.scope).where(optouts.c.project_id == project, optouts.c.hash.in_(list(hashes)))):
        found.setdefault(row.hash, set()).add(row.scope)
    return found


def relent(conn: Connection, project: int, hashes: Sequence[str], scope: str) -> None:
    """The person opted in again."""
    conn.execute(delete(optouts).where(optouts.c.project_id == project, optouts.c.hash.in_(list(hashes)), optouts.c.scope == scope))
