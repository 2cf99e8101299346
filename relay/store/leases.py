"""Leases: which node does what, when several share a database (`delivery`, `job:...`).

Time is the database's own, because node clocks differ. A node takes a lease for 60 s, renews it every 20, and one that could not renew for 40 s starts
nothing new: the 20 s between are the margin that keeps two nodes from delivering at once. After a kill -9 a node takes its own leases back at once, since it
is the same node by name.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Float, cast, delete, func, literal_column, or_, select

from relay.store.schema import leases
from relay.store.upsert import insert

TERM = 60.0  # seconds a lease lasts
RENEW = 20.0  # seconds between renewals
DOUBT = 40.0  # seconds without a renewal after which nothing new is started

_CLOCK = {
    "sqlite": literal_column("((julianday('now') - 2440587.5) * 86400.0)"),  # unixepoch('subsec') needs SQLite 3.42
    "postgresql": cast(func.extract("epoch", func.clock_timestamp()), Float),
}


def now(conn: Connection) -> float:
    """UTC seconds by the database's clock."""
    return float(conn.scalar(select(_clock(conn))))


def _clock(conn: Connection) -> Any:
    return _CLOCK[conn.dialect.name]


def take(conn: Connection, name: str, node: str, term: float = TERM) -> bool:
    """Whether the node has the lease now, for `term` seconds: it was free, expired, or already its own."""
    clock = _clock(conn)
    statement = insert(conn, leases).values(name=name, node=node, until=clock + term)
    statement = statement.on_conflict_do_update(
        index_elements=["name"], where=or_(leases.c.node == node, leases.c.until < clock), set_={"node": node, "until": clock + term})
    return conn.execute(statement.returning(leases.c.name)).first() is not None


def release(conn: Connection, name: str, node: str) -> None:
    """Give the lease back, if the node has it."""
    conn.execute(delete(leases).where(leases.c.name == name, leases.c.node == node))


def release_all(conn: Connection, node: str) -> None:
    conn.execute(delete(leases).where(leases.c.node == node))


def holder(conn: Connection, name: str) -> str | None:
    """The node that has the lease now, or None."""
    return conn.scalar(select(leases.c.node).where(leases.c.name == name, leases.c.until >= _clock(conn)))


def held(conn: Connection) -> list[tuple[str, str, float]]:
    """Name, node and seconds left of every lease that runs."""
    clock = _clock(conn)
    running = select(leases.c.name, leases.c.node, leases.c.until - clock).where(leases.c.until >= clock).order_by(leases.c.name)
    return [tuple(row) for row in conn.execute(running)]
