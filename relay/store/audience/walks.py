"""Contacts in an order that a caller chose, a page after the last row of the page before; and what a sample of them has as properties and tags."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from relay.store.audience.contacts import COLUMNS, Contact, Filter, made, where
from relay.store.audience.schema import contacts

SLICE = 500  # contacts of one read of properties, which may be 64 kB each


def walked(conn: Connection, project: int, wanted: Filter, after: int | str | None, descending: bool, limit: int, by_email: bool = False) -> list[Contact]:
    """The next contacts by address or by age.

    after  id or normal form of the address of the last contact seen
    """
    key = contacts.c.key if by_email else contacts.c.id
    query = select(*COLUMNS).where(where(project, wanted)).order_by(key.desc() if descending else key).limit(limit)
    if after is not None:
        query = query.where(key < after if descending else key > after)
    return [made(row) for row in conn.execute(query)]


def sampled(conn: Connection, project: int, before: int | None) -> list[tuple[int, dict[str, Any]]]:
    """Ids and properties of the SLICE newest contacts, of those older than the one with the id `before`."""
    query = select(contacts.c.id, contacts.c.properties).where(contacts.c.project_id == project).order_by(contacts.c.id.desc()).limit(SLICE)
    if before is not None:
        query = query.where(contacts.c.id < before)
    return [(row.id, row.properties) for row in conn.execute(query)]


def named(conn: Connection, project: int) -> tuple[set[str], set[str]]:
    """The tags and the names of properties that the SLICE newest contacts have."""
    query = select(contacts.c.tags, contacts.c.properties).where(contacts.c.project_id == project).order_by(contacts.c.id.desc()).limit(SLICE)
    rows = conn.execute(query).all()
    return {tag for row in rows for tag in row.tags}, {name for row in rows for name in row.properties}
