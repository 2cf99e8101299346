"""Which events a project has, by name, as far back as a short read may look; and what of them is taken back by name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Connection, cast, delete, func, select

from relay.store.audience.rules import DAY
from relay.store.audience.schema import activity, contacts
from relay.store.schema import events

LOOKED_AT = 20_000  # newest events of a project
COUNTED = 100_000  # events of an interval: some tenths of a second
SLICE = 500  # rows that one transaction deletes


def counts(conn: Connection, project: int) -> dict[str, int]:
    """How often each name is among the project's newest events."""
    newest = select(events.c.type).where(events.c.project_id == project).order_by(events.c.id.desc()).limit(LOOKED_AT).subquery()
    return {row[0]: row[1] for row in conn.execute(select(newest.c.type, func.count()).group_by(newest.c.type))}


def daily(conn: Connection, project: int, since: float, until: float, names: Sequence[str] = ()) -> dict[tuple[int, str], int]:
    """How often each event happened on each day (since 1970, UTC) between two times in UTC seconds: of the newest COUNTED events of the project.

    names  these alone; all where none is given
    """
    wanted = [events.c.project_id == project, events.c.at >= since, events.c.at < until, *([events.c.type.in_(names)] if names else [])]
    newest = select(cast(func.floor(events.c.at / DAY), BigInteger).label("day"), events.c.type).where(*wanted).order_by(events.c.id.desc()).limit(COUNTED)
    found = newest.subquery()
    return {(row[0], row[1]): row[2] for row in conn.execute(select(found.c.day, found.c.type, func.count()).group_by(found.c.day, found.c.type))}


def forget(conn: Connection, project: int, name: str) -> int:
    """How many events of this name and contacts' memories of it went, up to SLICE of each; ask until none does."""
    some = select(events.c.id).where(events.c.project_id == project, events.c.type == name).limit(SLICE)
    gone = conn.execute(delete(events).where(events.c.id.in_(some))).rowcount
    who = select(activity.c.contact_id).join(contacts, contacts.c.id == activity.c.contact_id)
    some = who.where(contacts.c.project_id == project, activity.c.name == name).limit(SLICE)
    return gone + conn.execute(delete(activity).where(activity.c.name == name, activity.c.contact_id.in_(some))).rowcount
