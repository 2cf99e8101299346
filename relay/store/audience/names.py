"""What a project's segments, audiences and topics are called."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from relay.store.audience.schema import audiences, segments, topics

SLICE = 500  # numbers of one query

_TABLES = {"segment": segments, "audience": audiences, "topic": topics}


def of(conn: Connection, project: int, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Names by ("segment", number), ("audience", number) and ("topic", number); what the project does not have is left out."""
    found = {}
    for kind, table in _TABLES.items():
        numbers = sorted(number for each, number in wanted if each == kind)
        for start in range(0, len(numbers), SLICE):
            some = select(table.c.id, table.c.name).where(table.c.project_id == project, table.c.id.in_(numbers[start:start + SLICE]))
            found |= {(kind, number): name for number, name in conn.execute(some)}
    return found
