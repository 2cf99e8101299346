"""The figures of a broadcast, by variant.

Whoever changes the ledger changes them in the same transaction, so a million rows are never counted to show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from relay.store.broadcasts.schema import counts as table

Key = tuple[int, int, str]  # broadcast, variant, name

_OF = select(table).where(table.c.broadcast_id == bindparam("number"))
_SQL = ("INSERT INTO broadcast_counts (broadcast_id, variant, name, count) VALUES ({}, {}, {}, {}) "
        "ON CONFLICT (broadcast_id, variant, name) DO UPDATE SET count = broadcast_counts.count + excluded.count")
_ADD = {"sqlite": _SQL.format("?", "?", "?", "?"), "postgresql": _SQL.format("$1", "$2", "$3", "$4")}


def add(conn: Connection, changes: Mapping[Key, int]) -> None:
    """Add these to the figures."""
    for (broadcast, variant, name), change in sorted(changes.items()):
        if change:
            conn.exec_driver_sql(_ADD[conn.dialect.name], (broadcast, variant, name, change))


def of(conn: Connection, broadcast: int) -> dict[int, Counter[str]]:
    """The figures of a broadcast by variant; 0 is who had none yet."""
    return _summed(conn.execute(_OF, {"number": broadcast})).get(broadcast, {})


def of_many(conn: Connection, broadcasts: Sequence[int]) -> dict[int, dict[int, Counter[str]]]:
    return _summed(conn.execute(select(table).where(table.c.broadcast_id.in_(list(broadcasts)))))


def _summed(rows: Iterable[Any]) -> dict[int, dict[int, Counter[str]]]:
    found: dict[int, dict[int, Counter[str]]] = {}
    for row in rows:
        found.setdefault(row.broadcast_id, {}).setdefault(row.variant, Counter())[row.name] += row.count
    return found


def whole(by_variant: Mapping[int, Counter[str]]) -> Counter[str]:
    """The figures of all variants together."""
    return sum(by_variant.values(), Counter())
