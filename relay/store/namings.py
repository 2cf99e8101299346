"""Which events a project has, by name, as far back as a short read may look."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from relay.store.schema import events

LOOKED_AT = 20_000  # newest events of a project


def counts(conn: Connection, project: int) -> dict[str, int]:
    """How often each name is among the project's newest events."""
    newest = select(events.c.type).where(events.c.project_id == project).order_by(events.c.id.desc()).limit(LOOKED_AT).subquery()
    return {row[0]: row[1] for row in conn.execute(select(newest.c.type, func.count()).group_by(newest.c.type))}
