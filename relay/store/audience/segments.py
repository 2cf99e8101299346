"""Segments of a project: saved questions about contacts, asked anew each time, and lists that are kept by hand.

A dynamic segment keeps its rules as they were given; relay.audience.grammars reads them. What is in it is never stored, so it is never stale. A static one has
rows in `segment_members`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, delete, func, literal, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import pages, plans
from relay.store.audience import changes, growth
from relay.store.audience import contacts as people
from relay.store.audience.contacts import Contact, Filter
from relay.store.audience.operators import NESTED, compiled
from relay.store.audience.rules import All, Condition, Rule, Subject
from relay.store.audience.rules import segments as asked
from relay.store.audience.schema import contacts, memberships
from relay.store.audience.schema import segment_members as members
from relay.store.audience.schema import segments as table
from relay.store.audience.subjects import Compiler
from relay.store.pages import Found, Page
from relay.store.upsert import insert


@dataclass(frozen=True, slots=True)
class Segment:
    """`rules` as given, None for a static segment; `tracked` if entries and exits become events, `settled` once it is known from which members on."""

    id: int
    project_id: int
    name: str
    description: str
    rules: Any
    audience_id: int | None
    tracked: bool
    created_at: float
    updated_at: float
    settled: bool = False

    @property
    def public_id(self) -> str:
        return ids.public("seg", self.id)


Read = Callable[[Any], Rule]  # relay.audience.grammars.read: rules as given to a tree

COLUMNS = tuple(table.c[name] for name in Segment.__slots__)


def add(conn: Connection, segment: Segment) -> Segment:
    conn.execute(table.insert(), {name: getattr(segment, name) for name in Segment.__slots__})
    return segment


def find(conn: Connection, project: int, number: int) -> Segment | None:
    row = conn.execute(select(*COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    return None if row is None else Segment(*row)


def get(conn: Connection, project: int, number: int) -> Segment:
    """Raises NotFound."""
    found = find(conn, project, number)
    if found is None:
        raise NotFound("Segment not found")
    return found


def paged_list(conn: Connection, project: int, which: Page, audience: int | None = None) -> Found:
    query = select(*COLUMNS).where(table.c.project_id == project)
    if audience is not None:
        query = query.where(table.c.audience_id == audience)
    found = pages.take(conn, query, table.c.id, which)
    return Found([Segment(*row) for row in found.rows], found.total, found.last)


def within(conn: Connection, audience: int) -> list[int]:
    """The segments that live in an audience."""
    return list(conn.scalars(select(table.c.id).where(table.c.audience_id == audience)))


def present(conn: Connection, project: int, numbers: Iterable[int]) -> set[int]:
    """Which of these segments a project has."""
    return set(conn.scalars(select(table.c.id).where(table.c.project_id == project, table.c.id.in_(sorted(numbers)))))


def asking(conn: Connection, project: int) -> list[tuple[int, Any]]:
    """The rules of a project's segments that may ask about segments, by number."""
    named = select(table.c.id, table.c.rules).where(table.c.project_id == project, cast(table.c.rules, Text).contains("seg_", autoescape=True))
    return [(row.id, row.rules) for row in conn.execute(named)]


def many(conn: Connection, project: int) -> int:
    """How many segments a project has."""
    return conn.scalar(select(func.count()).where(table.c.project_id == project)) or 0


def change(conn: Connection, project: int, number: int, changes: dict[str, Any]) -> Segment:
    get(conn, project, number)
    conn.execute(update(table).where(table.c.id == number).values(changes))
    return get(conn, project, number)


def empty(conn: Connection, number: int, limit: int) -> int:
    """Drop up to so many rows of a segment that is about to be deleted, and tell nobody; how many. Repeat until it is none."""
    gone = 0
    for rows in (members, memberships):
        some = select(rows.c.contact_id).where(rows.c.segment_id == number).limit(limit)
        gone += conn.execute(delete(rows).where(rows.c.segment_id == number, rows.c.contact_id.in_(some))).rowcount
    return gone


def remove(conn: Connection, project: int, number: int) -> None:
    """Delete the segment; its contacts stay."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))


# Who is in it.


def condition(conn: Connection, segment: Segment, now: float, read: Read) -> ColumnElement[bool]:
    """The members of a segment, as a condition on contacts."""
    return where(conn, segment.project_id, whole(segment, read), now, read)


def whole(segment: Segment, read: Read) -> Rule:
    """What is true of the members of a segment: its rules, or that they are on its list; and that they are in the audience that it lives in."""
    return _whole(segment.id, segment.rules, segment.audience_id, read)


def _whole(number: int, rules: Any, audience: int | None, read: Read) -> Rule:
    rule = Condition(Subject("listed", (number,)), "member") if rules is None else read(rules)
    return rule if audience is None else All((Condition(Subject("audience", (audience,)), "member"), rule))


def where(conn: Connection, project: int, rule: Rule, now: float, read: Read) -> ColumnElement[bool]:
    """The contacts that a rule is true of, as a condition."""
    return compiled(rule, Compiler(conn.dialect.name == "postgresql", now, needed(conn, project, rule, read)))


def needed(conn: Connection, project: int, rule: Rule, read: Read) -> dict[int, Rule]:
    """What is true of the members of all segments that a rule asks about, and of those that these ask about."""
    found: dict[int, Rule] = {}
    wanted = asked(rule)
    for _ in range(NESTED):
        if not wanted:
            break
        rows = conn.execute(select(table.c.id, table.c.rules, table.c.audience_id).where(table.c.project_id == project, table.c.id.in_(sorted(wanted)))).all()
        news = {row.id: _whole(row.id, row.rules, row.audience_id, read) for row in rows}
        found |= news
        wanted = {each for its in news.values() for each in asked(its)} - found.keys()
    return found


def paged(conn: Connection, project: int, which: Page, wanted: Filter, number: int | None, now: float, read: Read, rules: Any = None) -> Found:
    """A page of contacts; with the number of a segment that exists, of its members; with rules, of those they are true of."""
    segment = find(conn, project, number) if number is not None else None
    parts = [] if segment is None else [condition(conn, segment, now, read)]
    if rules is not None:
        parts.append(where(conn, project, read(rules), now, read))
    if parts:
        name = (None if segment is None else (segment.id, segment.updated_at), str(rules))
        wanted = Filter(wanted.search, wanted.unsubscribed, wanted.audience, and_(*parts), name)
    return people.paged(conn, project, which, wanted)


def members_after(conn: Connection, project: int, number: int, after: int, limit: int, now: float, read: Read) -> list[Contact]:
    """The next members of a segment by id; raises NotFound."""
    segment = get(conn, project, number)
    plans.in_order(conn)
    return people.after(conn, project, after, Filter(rule=condition(conn, segment, now, read)), limit)


def counted(conn: Connection, segment: Segment, now: float, read: Read) -> int:
    return people.count(conn, segment.project_id, Filter(rule=condition(conn, segment, now, read)))


def preview(conn: Connection, project: int, rule: Rule, now: float, read: Read, audience: int | None = None) -> int:
    """How many contacts a rule is true of."""
    return people.count(conn, project, Filter(audience=audience, rule=where(conn, project, rule, now, read)))


# Static ones.


def put(conn: Connection, number: int, contact_ids: Sequence[int], at: float) -> list[int]:
    """Which of these contacts were not on the list before."""
    new: list[int] = []
    for start in range(0, len(contact_ids), changes.KEYS):
        some = select(literal(number), contacts.c.id, literal(at)).where(contacts.c.id.in_(list(contact_ids[start:start + changes.KEYS])))
        rows = insert(conn, members).from_select(["segment_id", "contact_id", "added_at"], some)
        new += conn.scalars(rows.on_conflict_do_nothing(index_elements=["segment_id", "contact_id"]).returning(members.c.contact_id))
    growth.count(conn, number, len(new), 0, at)
    changes.note(conn, new)
    return new


def take(conn: Connection, number: int, contact_ids: Sequence[int], at: float) -> list[int]:
    """Which of these contacts were on the list and no longer are."""
    off = delete(members).where(members.c.segment_id == number, members.c.contact_id.in_(list(contact_ids)))
    gone = list(conn.scalars(off.returning(members.c.contact_id)))
    growth.count(conn, number, 0, len(gone), at)
    changes.note(conn, gone)
    return gone


def size(conn: Connection, segment: Segment) -> int:
    """Contacts on the list of a static segment, or that are members of a tracked one as far as that has been told."""
    where_ = members if segment.rules is None else memberships
    return conn.scalar(select(func.count()).where(where_.c.segment_id == segment.id)) or 0


def daily(conn: Connection, project: int, number: int, days: int, now: float) -> list[tuple[float, int]] | None:
    """The growth of a segment as relay.store.audience.growth tells it, None for a dynamic one that was not counted yet; raises NotFound."""
    segment = get(conn, project, number)
    counted = growth.sizes(conn, number, days, now)
    if segment.rules is not None and not segment.tracked:
        return counted or None
    followed, before = growth.daily(conn, number, size(conn, segment), days, now), dict(counted)
    return [*((at, before.get(at, members)) for at, members in followed[:-1]), followed[-1]]
