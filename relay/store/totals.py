"""How many emails a project has in the ledger: all, by domain of From and by tag; kept by the writer with every message that comes and goes (B19).

A list of millions would have to count them each time it is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from relay.store import bulk
from relay.store.schema import email_counts as table
from relay.store.schema import email_tags, messages

ALL, DOMAIN, TAG = "all", "domain", "tag"

_SQL = ("INSERT INTO email_counts (project_id, kind, name, number) VALUES ({}, {}, {}, {}) "
        "ON CONFLICT (project_id, kind, name) DO UPDATE SET number = email_counts.number + excluded.number")
_ADD = {"sqlite": _SQL.format("?", "?", "?", "?"), "postgresql": _SQL.format("$1", "$2", "$3", "$4")}


def add(conn: Connection, rows: Iterable[tuple[int, int, str, Sequence[str]]]) -> None:
    """Count these new messages, each as (id, project, domain, tags), and note their tags."""
    rows = list(rows)
    bulk.insert(conn, email_tags, [(project, tag, number) for number, project, _, tags in rows for tag in dict.fromkeys(tags)])
    _count(conn, rows, 1)


def forget(conn: Connection, numbers: Sequence[int]) -> None:
    """These messages are about to go."""
    rows = conn.execute(select(messages.c.id, messages.c.project_id, messages.c.domain, messages.c.tags).where(messages.c.id.in_(numbers))).all()
    for number, project, _, tags in rows:
        for tag in dict.fromkeys(tags):
            conn.execute(email_tags.delete().where(email_tags.c.project_id == project, email_tags.c.tag == tag, email_tags.c.message_id == number))
    _count(conn, rows, -1)


def _count(conn: Connection, rows: Iterable[Sequence], step: int) -> None:
    sums: Counter[tuple[int, str, str]] = Counter()
    for _, project, domain, tags in rows:
        sums[project, ALL, ""] += step
        sums[project, DOMAIN, domain] += step
        for tag in dict.fromkeys(tags):
            sums[project, TAG, tag] += step
    for key, number in sorted(sums.items()):  # one order for everybody, so that two nodes never wait for each other
        bulk.run(conn, _ADD[conn.dialect.name], (*key, number))


def of(conn: Connection, project: int, kind: str, name: str = "") -> int:
    """The number of this kind and name."""
    return conn.scalar(select(table.c.number).where(table.c.project_id == project, table.c.kind == kind, table.c.name == name)) or 0


def names(conn: Connection, project: int, kind: str) -> list[str]:
    """The names that a kind has."""
    return list(conn.scalars(select(table.c.name).where(table.c.project_id == project, table.c.kind == kind, table.c.number > 0)))
