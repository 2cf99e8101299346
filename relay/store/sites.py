"""What is remembered of destination sites: suspensions, broken TLS and the pace they bear, with their end: a restart must not hammer who asked for rest.

A suspension without an end is one made by hand; only `resume` lifts it. One by hand is never shortened by what a remote server says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select

from relay.store.schema import sites
from relay.store.upsert import insert

KEPT = 10_000  # sites; far more than a relay suspends at once


@dataclass(frozen=True, slots=True)
class Site:
    """`suspended_until` UTC seconds, None = not suspended unless `by_hand`; `broken_tls_until` while STARTTLS is not tried; `pace` as relay.queue.pace
    writes it, until `pace_until`."""

    name: str
    suspended_until: float | None = None
    reason: str = ""
    by_hand: bool = False
    broken_tls_until: float | None = None
    pace: str | None = None
    pace_until: float | None = None

    def suspended(self, now: float) -> bool:
        return (self.by_hand and self.suspended_until is None) or (self.suspended_until or 0.0) > now


_COLUMNS = (sites.c.name, sites.c.suspended_until, sites.c.reason, sites.c.by_hand, sites.c.broken_tls_until, sites.c.pace, sites.c.pace_until)


def suspend(conn: Connection, name: str, until: float | None, reason: str, by_hand: bool, now: float) -> None:
    """No attempts to the site until then; None, by hand, means until `resume`. A site suspended by hand stays as it is when a reply asks for less."""
    statement = insert(conn, sites).values(name=name, suspended_until=until, reason=reason, by_hand=by_hand, updated_at=now)
    keep = None if by_hand else or_(sites.c.by_hand.is_(False), sites.c.suspended_until <= now)
    conn.execute(statement.on_conflict_do_update(
        index_elements=["name"], where=keep, set_={"suspended_until": until, "reason": reason, "by_hand": by_hand, "updated_at": now}))


def resume(conn: Connection, name: str, now: float) -> bool:
    """Attempts go on; whether it was suspended."""
    found = get(conn, name)
    _put(conn, name, now, suspended_until=None, reason="", by_hand=False, pace=None, pace_until=None)
    return found is not None and found.suspended(now)


def broken_tls(conn: Connection, name: str, until: float | None, now: float) -> None:
    """STARTTLS at this site fails after it was offered; it is not tried until then."""
    _put(conn, name, now, broken_tls_until=until)


def learn(conn: Connection, paces: Mapping[str, str], until: float, now: float) -> None:
    """The pace of these sites, which counts until then; "" for one that is as good as new."""
    for name, pace in sorted(paces.items()):
        _put(conn, name, now, pace=pace or None, pace_until=until if pace else None)


def _put(conn: Connection, name: str, now: float, **values: Any) -> None:
    fresh = {"suspended_until": None, "reason": "", "by_hand": False, "broken_tls_until": None, **values}
    statement = insert(conn, sites).values(name=name, updated_at=now, **fresh)
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_={**values, "updated_at": now}))


def get(conn: Connection, name: str) -> Site | None:
    row = conn.execute(select(*_COLUMNS).where(sites.c.name == name)).one_or_none()
    return None if row is None else Site(*row)


def remembered(conn: Connection, now: float) -> list[Site]:
    """Everything that still counts, newest first, at most KEPT."""
    return [Site(*row) for row in conn.execute(select(*_COLUMNS).where(_counts(now)).order_by(sites.c.updated_at.desc()).limit(KEPT))]


def prune(conn: Connection, now: float) -> int:
    """Forget what no longer counts; how many."""
    return conn.execute(delete(sites).where(~_counts(now))).rowcount


def _counts(now: float) -> Any:
    forever = and_(sites.c.by_hand, sites.c.suspended_until.is_(None))
    running = [and_(until.is_not(None), until > now) for until in (sites.c.suspended_until, sites.c.broken_tls_until, sites.c.pace_until)]
    return or_(forever, *running)
