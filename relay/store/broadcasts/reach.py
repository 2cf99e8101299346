"""Who of a broadcast's audience did what: people lists for a closer look, and for a second try."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from relay.store.audience.schema import contacts
from relay.store.broadcasts.schema import ledger

DELIVERED = "delivered"


def without(conn: Connection, number: int, column: str, after: int = 0, limit: int = 500) -> list[Any]:
    """Contacts that got it and have nothing in this column ("opened_at" or "clicked_at"), by id: (id, email, first_name, last_name)."""
    query = select(contacts.c.id, contacts.c.email, contacts.c.first_name, contacts.c.last_name).join(ledger, ledger.c.contact_id == contacts.c.id)
    wanted = query.where(ledger.c.broadcast_id == number, ledger.c.state == DELIVERED, ledger.c[column].is_(None), ledger.c.contact_id > after)
    return list(conn.execute(wanted.order_by(ledger.c.contact_id).limit(limit)))


def count_without(conn: Connection, number: int, column: str) -> int:
    return conn.scalar(select(func.count()).select_from(ledger).where(
        ledger.c.broadcast_id == number, ledger.c.state == DELIVERED, ledger.c[column].is_(None))) or 0


def counted_without(conn: Connection, number: int, column: str, limit: int) -> tuple[int, list[Any]]:
    """How many they are, and the first of them."""
    return count_without(conn, number, column), without(conn, number, column, 0, limit)


def rows(conn: Connection, number: int, state: str | None, after: int, limit: int) -> list[Any]:
    """Rows of the ledger by contact, with the address where there still is one."""
    query = select(ledger, contacts.c.email).outerjoin(contacts, contacts.c.id == ledger.c.contact_id).where(
        ledger.c.broadcast_id == number, ledger.c.contact_id > after)
    if state is not None:
        query = query.where(ledger.c.state == state)
    return list(conn.execute(query.order_by(ledger.c.contact_id).limit(limit)))
