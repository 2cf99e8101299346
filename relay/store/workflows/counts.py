"""The figures of workflows: runs by status, and for each node how often which outcome.

Whoever changes a run changes them in the same transaction, so a million rows are never counted to show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from relay.store.workflows.schema import counts as table

Key = tuple[int, str, str]  # workflow, node or "", name

_SQL = ("INSERT INTO workflow_counts (workflow_id, node, name, count) VALUES ({}, {}, {}, {}) "
        "ON CONFLICT (workflow_id, node, name) DO UPDATE SET count = workflow_counts.count + excluded.count")
_ADD = {"sqlite": _SQL.format("?", "?", "?", "?"), "postgresql": _SQL.format("$1", "$2", "$3", "$4")}


def add(conn: Connection, changes: Mapping[Key, int]) -> None:
    """Add these to the figures."""
    for key, change in sorted(changes.items()):
        if change:
            conn.exec_driver_sql(_ADD[conn.dialect.name], (*key, change))


def of_many(conn: Connection, workflows: Sequence[int]) -> dict[int, Counter[str]]:
    """The runs of some workflows by status."""
    found: dict[int, Counter[str]] = {}
    for row in conn.execute(select(table).where(table.c.workflow_id.in_(list(workflows)), table.c.node == "")):
        found.setdefault(row.workflow_id, Counter())[row.name] += row.count
    return found


def of_nodes(conn: Connection, workflow: int) -> dict[str, Counter[str]]:
    """The outcomes at each node of a workflow."""
    found: dict[str, Counter[str]] = {}
    for row in conn.execute(select(table).where(table.c.workflow_id == workflow, table.c.node != "")):
        found.setdefault(row.node, Counter())[row.name] += row.count
    return found


def whole(conn: Connection, names: Sequence[str]) -> Counter[str]:
    """The runs of all workflows by these statuses."""
    found: Counter[str] = Counter()
    for row in conn.execute(select(table.c.name, table.c.count).where(table.c.node == "", table.c.name.in_(list(names)))):
        found[row.name] += row.count
    return found
