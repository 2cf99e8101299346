"""INSERT ... ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert(conn: Connection, table: Table) -> Any:
    """An insert into the table that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return _INSERT[conn.dialect.name](table)
