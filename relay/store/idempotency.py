"""Idempotency keys: the same request twice is one send.

A row is unique by project, dialect and key and is written in the transaction of the message itself, so it exists exactly when the message does. Of two at
once the database lets one in; the other reads the winner's answer. A key whose time is over counts as new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from relay.store.schema import idempotency as table
from relay.store.upsert import insert

_COLUMNS = (table.c.project_id, table.c.dialect, table.c.key, table.c.hash, table.c.answer, table.c.created_at, table.c.expires_at)


@dataclass(frozen=True, slots=True)
class Entry:
    """`dialect` "smtp" | "http" | "plunk" | "dsn"; `hash` of the request; `answer` JSON that a replay gives; times in UTC seconds."""

    project_id: int
    dialect: str
    key: str
    hash: str
    answer: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    expires_at: float = 0.0


def claim(conn: Connection, entry: Entry) -> Entry | None:
    """None when the key was free and is now this entry's, else the entry that has it.

    The caller compares `hash`: equal means replay `answer`, different means the key was used for something else. Run in the message's transaction.
    """
    values = {column.name: getattr(entry, column.name) for column in _COLUMNS}
    statement = insert(conn, table).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["project_id", "dialect", "key"], where=table.c.expires_at <= entry.created_at,
        set_={name: values[name] for name in ("hash", "answer", "created_at", "expires_at")})
    if conn.execute(statement.returning(table.c.key)).first() is not None:
        return None
    return get(conn, entry.project_id, entry.dialect, entry.key, entry.created_at)


def get(conn: Connection, project_id: int, dialect: str, key: str, now: float) -> Entry | None:
    """The entry that has the key now, or None."""
    row = conn.execute(select(*_COLUMNS).where(
        table.c.project_id == project_id, table.c.dialect == dialect, table.c.key == key, table.c.expires_at > now)).one_or_none()
    return None if row is None else Entry(*row)


def among(conn: Connection, project_id: int, dialect: str, keys: Sequence[str], now: float) -> dict[str, Entry]:
    """The entries that have these keys (at most some hundred) now, by key."""
    rows = conn.execute(select(*_COLUMNS).where(
        table.c.project_id == project_id, table.c.dialect == dialect, table.c.key.in_(keys), table.c.expires_at > now))
    return {row.key: Entry(*row) for row in rows}


def release(conn: Connection, project_id: int, dialect: str, key: str) -> None:
    """The key is free again."""
    conn.execute(delete(table).where(table.c.project_id == project_id, table.c.dialect == dialect, table.c.key == key))


def answered(conn: Connection, project_id: int, dialect: str, key: str, answer: dict[str, Any]) -> None:
    """Note what became of the request that has the key."""
    conn.execute(update(table).where(table.c.project_id == project_id, table.c.dialect == dialect, table.c.key == key).values(answer=answer))


def prune(conn: Connection, now: float, limit: int) -> int:
    """Drop up to `limit` keys whose time is over; how many."""
    old = select(table.c.project_id, table.c.dialect, table.c.key).where(table.c.expires_at <= now).limit(limit).subquery()
    picked = and_(table.c.project_id == old.c.project_id, table.c.dialect == old.c.dialect, table.c.key == old.c.key)
    return conn.execute(delete(table).where(select(old.c.key).where(picked).exists())).rowcount
