"""Suppressions: addresses that get no mail from a project, why, and how much of it they refuse.

    scope          stops                                    reasons
    all            everything                               hard_bounce, soft_bounce, complaint, manual, unsubscribe
    marketing      mail of the marketing stream             unsubscribe, snooze
    topic:<id>     mail of that topic                       unsubscribe

One entry per project, address (its normal form) and scope. A second report for the same keeps the more serious reason. An entry with `expires_at` goes by
itself within a minute of that time (`lapsed`). `find` is the read on the hot path, at RCPT and just before MAIL; it is one index range and is never cached,
which is what makes consent instant; on SQLite it is left out where relay.store.sieve knows that there is no entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import ARRAY, Connection, String, bindparam, case, delete, func, select

from relay.errors import Invalid
from relay.mail import address as mail_address
from relay.mail import ids
from relay.store import pages
from relay.store.audience import changes
from relay.store.hot import Hot, value
from relay.store.pages import Found, Page
from relay.store.schema import suppressions as table
from relay.store.upsert import insert

ALL, MARKETING = "all", "marketing"
# A graver reason replaces a lighter one, never the reverse.
SEVERITY = {"soft_bounce": 0, "snooze": 0, "unsubscribe": 1, "manual": 2, "hard_bounce": 3, "complaint": 4}
REASONS = ("unsubscribe", "manual", "hard_bounce", "complaint")  # that projects may give; the others end by themselves


@dataclass(frozen=True, slots=True)
class Suppression:
    """`key` is the address in normal form; `evidence` is JSON: what was reported, by whom, in which import. `expires_at` UTC seconds, None = it stays."""

    id: int
    project_id: int
    key: str
    address: str
    reason: str
    scope: str = ALL
    evidence: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: empty fields do not filter. `batch` an import, `rule` a bounce rule, `since` and `until` UTC seconds."""

    reason: str = ""
    scope: str = ""
    batch: str = ""
    rule: str = ""
    since: float | None = None
    until: float | None = None
    after: int = 0  # the last id of the page before


def said(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence as people and programs see it: `email_id` for our own numbers, which are more than JavaScript can count to."""
    told = {name: value for name, value in evidence.items() if name not in ("message_id", "recipient_id")}
    number = evidence.get("message_id")
    return {**told, "email_id": ids.public("em", number)} if isinstance(number, int) else told


_COLUMNS = (table.c.id, table.c.project_id, table.c.key, table.c.address, table.c.reason, table.c.scope, table.c.evidence, table.c.created_at,
            table.c.expires_at)
_FIND = Hot(select(*_COLUMNS).where(table.c.project_id == bindparam("project"), table.c.key == bindparam("key")))
_OF_MANY = select(*_COLUMNS).where(table.c.project_id == bindparam("project"))
_FIND_MANY = {
    "sqlite": Hot(_OF_MANY.where(table.c.key.in_(select(func.json_each(bindparam("keys", type_=String)).table_valued("value").c.value)))),
    "postgresql": Hot(_OF_MANY.where(table.c.key == func.any(bindparam("keys", type_=ARRAY(String))))),
}
_INDEX = ["project_id", "key", "scope"]


def make(
    entry_id: int, project_id: int, address: str, reason: str, scope: str, evidence: dict[str, Any], now: float, expires_at: float | None = None,
) -> Suppression:
    """An entry, checked; raises Invalid naming the field."""
    if reason not in REASONS:
        raise Invalid("reason", f"reason is one of {', '.join(REASONS)}")
    if scope not in (ALL, MARKETING) and not (scope.startswith("topic:") and len(scope) > 6):
        raise Invalid("scope", 'scope is "all", "marketing" or "topic:" and its id')
    return Suppression(entry_id, project_id, mail_address.key(address), address, reason, scope, evidence, now, expires_at)


def find(conn: Connection, project: int, key: str, stream: str, topic: str) -> Suppression | None:
    """The gravest entry that stops mail of this stream and topic to the address, or None."""
    rows = _FIND(conn, project=project, key=key)
    if not rows:
        return None
    stopping = [entry for entry in map(_entry, rows) if _stops(entry.scope, stream, topic)]
    return max(stopping, key=_gravity) if stopping else None


def stopping(conn: Connection, project: int, keys: Sequence[str], stream: str, topic: str) -> dict[str, Suppression]:
    """What `find` gives for each of these addresses, in one query; without those that nothing stops."""
    if len(keys) == 1:
        found = find(conn, project, keys[0], stream, topic)
        return {} if found is None else {keys[0]: found}
    given = orjson.dumps(keys).decode() if conn.dialect.name == "sqlite" else list(keys)
    stopping: dict[str, Suppression] = {}
    for entry in map(_entry, _FIND_MANY[conn.dialect.name](conn, project=project, keys=given)):
        known = stopping.get(entry.key)
        if _stops(entry.scope, stream, topic) and (known is None or _gravity(known) < _gravity(entry)):
            stopping[entry.key] = entry
    return stopping


def _stops(scope: str, stream: str, topic: str) -> bool:
    return scope == ALL or (scope == MARKETING and stream == MARKETING) or (topic != "" and scope == f"topic:{topic}")


def _gravity(entry: Suppression) -> tuple[bool, int]:
    return entry.scope == ALL, SEVERITY.get(entry.reason, 0)


def _entry(row: tuple[Any, ...]) -> Suppression:
    return Suppression(*row[:6], value(row[6]), *row[7:])


def add(conn: Connection, entry: Suppression) -> bool:
    """Whether the entry is new or graver than the one there was."""
    return add_many(conn, [entry]) == 1


def add_many(conn: Connection, entries: Sequence[Suppression]) -> int:
    """How many of the entries were new or graver than what there was; an import hands in slices of some hundred."""
    statement = insert(conn, table)
    graver = _severity(statement.excluded.reason) > _severity(table.c.reason)
    newer = {name: statement.excluded[name] for name in ("reason", "evidence", "address", "created_at", "expires_at")}
    statement = statement.on_conflict_do_update(index_elements=_INDEX, where=graver, set_=newer).returning(table.c.id)
    new = [entry for entry in entries if conn.execute(statement, _values(entry)).all()]
    _note(conn, new)
    return len(new)


def _note(conn: Connection, entries: Sequence[Suppression]) -> None:
    """Something is new of contacts with these addresses: segments can ask whether all mail to somebody is stopped."""
    for project in {entry.project_id for entry in entries if entry.scope == ALL}:
        changes.note_keys(conn, project, [entry.key for entry in entries if (entry.project_id, entry.scope) == (project, ALL)])


def _severity(column: Any) -> Any:
    return case(SEVERITY, value=column, else_=0)


def _values(entry: Suppression) -> dict[str, Any]:
    return {"id": entry.id, "project_id": entry.project_id, "key": entry.key, "address": entry.address, "reason": entry.reason, "scope": entry.scope,
            "evidence": entry.evidence, "created_at": entry.created_at, "expires_at": entry.expires_at}


def remove(conn: Connection, project: int, key: str, scope: str = "") -> list[Suppression]:
    """The entries that were there and are no longer; `scope` "" means all of them."""
    wanted = [table.c.project_id == project, table.c.key == key]
    if scope:
        wanted.append(table.c.scope == scope)
    return _gone(conn, delete(table).where(*wanted))


def undo(conn: Connection, project: int, wanted: Filter, limit: int) -> list[Suppression]:
    """Remove up to `limit` entries that match, after a wrong import or a rule that misread bounces; gives those that went. Call until it gives none."""
    return _taken(conn, select(table.c.id).where(*_where(project, wanted)).limit(limit))


def lapsed(conn: Connection, now: float, limit: int) -> list[Suppression]:
    """Remove up to `limit` entries of all projects whose time is over; gives those that went."""
    return _taken(conn, select(table.c.id).where(table.c.expires_at <= now).limit(limit))


def _taken(conn: Connection, picked: Any) -> list[Suppression]:
    return _gone(conn, delete(table).where(table.c.id.in_(picked)))


def _gone(conn: Connection, statement: Any) -> list[Suppression]:
    gone = [Suppression(*row) for row in conn.execute(statement.returning(*_COLUMNS))]
    _note(conn, gone)
    return gone


def page(conn: Connection, project: int, wanted: Filter, limit: int) -> list[Suppression]:
    """Entries, oldest first, after `wanted.after`."""
    return [Suppression(*row) for row in conn.execute(select(*_COLUMNS).where(*_where(project, wanted)).order_by(table.c.id).limit(limit))]


def paged(conn: Connection, project: int, which: Page, reason: str | None = None, key: str | None = None) -> Found:
    """Entries, newest first."""
    tests = [table.c.project_id == project]
    if reason is not None:
        tests.append(table.c.reason == reason)
    if key is not None:
        tests.append(table.c.key == key)
    found = pages.take(conn, select(*_COLUMNS).where(*tests), table.c.id, which)
    return Found([Suppression(*row) for row in found.rows], found.total, found.last)


def of(conn: Connection, project: int, key: str) -> list[Suppression]:
    """Every entry of one address."""
    return [_entry(row) for row in _FIND(conn, project=project, key=key)]


def among(conn: Connection, project: int, keys: Sequence[str]) -> list[Suppression]:
    """Every entry of up to some hundred addresses."""
    return [Suppression(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.key.in_(list(keys))))]


def counts(conn: Connection, project: int) -> dict[str, int]:
    """Entries by reason."""
    return dict(conn.execute(select(table.c.reason, func.count()).where(table.c.project_id == project).group_by(table.c.reason)).all())


def _where(project: int, wanted: Filter) -> list[Any]:
    tests = [table.c.project_id == project]
    for name in ("reason", "scope"):
        if getattr(wanted, name):
            tests.append(table.c[name] == getattr(wanted, name))
    for name in ("batch", "rule"):
        if getattr(wanted, name):
            tests.append(table.c.evidence[name].as_string() == getattr(wanted, name))
    if wanted.since is not None:
        tests.append(table.c.created_at >= wanted.since)
    if wanted.until is not None:
        tests.append(table.c.created_at < wanted.until)
    if wanted.after:
        tests.append(table.c.id > wanted.after)
    return tests
