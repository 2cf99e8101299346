"""Counting a large table by one of its columns, a slice at a time: no read transaction is long, and nobody else's reads wait for it.

What comes and goes during a walk may be counted or not; the next walk has it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, func, select

from relay.store.audience.schema import contacts
from relay.store.schema import suppressions

SLICE = 10_000  # rows of one read: some milliseconds

REASONS = suppressions.c.reason
UNSUBSCRIBED = contacts.c.unsubscribed


def counted(conn: Connection, column: Column[Any], after: int) -> tuple[dict[Any, int], int | None]:
    """How many of the next SLICE rows after an id have each value of the column, and the last id of these rows, None at the end."""
    table = column.table
    rows = select(table.c.id, column.label("value")).where(table.c.id > after).order_by(table.c.id).limit(SLICE).subquery()
    found = conn.execute(select(rows.c.value, func.count(), func.max(rows.c.id)).group_by(rows.c.value)).all()
    last = max(row[2] for row in found) if sum(row[1] for row in found) == SLICE else None
    return {value: number for value, number, _ in found}, last
