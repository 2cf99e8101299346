"""Which emails match: a page of ids, newest first, and how many there are, in milliseconds with a million in the ledger.

Each filter that narrows has an index whose entries are in the order of emails, a *way*:

    to         recipients by address            tag      email_tags
    status     recipients by any state but      domain   messages by domain
               queued and delivered; queue      dates    messages by project and time, which is the way without any filter too

The ways of a question are counted, no further than MOST. When one has no more than that, all its emails are looked at, which gives the exact total. Otherwise
the narrowest kind is walked from its newest until the page is full; the total then comes from `email_counts`, which the writer keeps, where one filter alone
was asked for, and else says that there are at least MOST.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, false, func, not_, or_, select, text, tuple_

from relay.errors import Invalid
from relay.mail.ids import EPOCH
from relay.store import totals
from relay.store.messages import DELIVERED, QUEUED, STATUS
from relay.store.pages import Page
from relay.store.schema import email_tags, messages, queue, recipients

DEEP = 10_000  # emails that may be passed over to a page by number where all were not counted; a cursor goes on from any of them
MOST = 5_000  # emails that are looked at one by one: 60 ms with PostgreSQL; beyond it a total may say "at least"
COUNTED = 100_000  # entries of an index that are counted for a total: 15 ms of CPU

_id = messages.c.id
_NEWEST = (messages.c.created_at.desc(), messages.c.id.desc())


@dataclass(frozen=True, slots=True)
class Filter:
    """Which emails; None does not restrict. `to` an address in normal form, `domain` an A-label whose sub-domains count too, times in UTC seconds.

    `among` these ids only: what is on the wire is known to the runner, not to the ledger.
    """

    status: str | None = None
    domain: str | None = None
    to: str | None = None
    tag: str | None = None
    since: float | None = None
    until: float | None = None
    among: frozenset[int] | None = None

    @property
    def names(self) -> list[str]:
        """The filters that are set."""
        return [name for name in self.__slots__ if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class Hits:
    """Ids of a page, newest first; whether there are more; the total, and whether it is exact."""

    ids: list[int]
    more: bool
    total: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """An index walk: `ids` selects ids of candidates from it, newest first; `key` is the column that has them."""

    ids: Select[Any]
    key: ColumnElement[int]


def find(conn: Connection, project: int, wanted: Filter, which: Page) -> Hits:
    """The emails of the project that match, by id."""
    if wanted.among is not None:
        # `+ 0`, or SQLite walks the whole project to find these few.
        mine = select(_id).where(_id.in_(sorted(wanted.among)[-MOST:]), messages.c.project_id + 0 == project)
        return _page(conn, _matching(conn, project, wanted, mine), which) if wanted.among else Hits([], False, 0)
    if wanted.domain is not None and not _domains(conn, project, wanted.domain):
        return Hits([], False, 0)
    ways = _ways(conn, project, wanted)
    for way in ways:
        if conn.scalar(select(func.count()).select_from(way.ids.order_by(None).limit(MOST + 1).subquery())) <= MOST:
            stated = _of_state(conn, project, wanted, way)
            return _page(conn, _matching(conn, project, wanted, way.ids.order_by(None)) if stated is None else stated, which)
    return _walked(conn, project, wanted, ways[0], which)


def _ways(conn: Connection, project: int, wanted: Filter) -> list[Way]:
    """The ways of the question, the one that is likely to be the narrowest first."""
    found = []
    if wanted.to is not None:
        found.append(_way(recipients.c.message_id, and_(recipients.c.project_id == project, recipients.c.key == wanted.to)))
    if wanted.tag is not None:
        found.append(_way(email_tags.c.message_id, and_(email_tags.c.project_id == project, email_tags.c.tag == wanted.tag)))
    if wanted.status == QUEUED:
        found.append(_way(queue.c.message_id, queue.c.project_id == project))
    elif wanted.status not in (None, DELIVERED):
        found.append(_way(recipients.c.message_id, and_(recipients.c.project_id == project, recipients.c.state == wanted.status, _RARE)))
    if wanted.domain is not None:
        names = _domains(conn, project, wanted.domain)
        where = messages.c.domain == names[0] if len(names) == 1 else messages.c.domain.in_(names)
        found.append(Way(select(_id).where(messages.c.project_id == project, where, *dates(wanted)).order_by(*_NEWEST), _id))
    elif not found or wanted.since is not None or wanted.until is not None:
        found.append(Way(select(_id).where(messages.c.project_id == project, *dates(wanted)).order_by(*_NEWEST), _id))
    return found


_RARE = text("recipients.state NOT IN ('queued', 'delivered')")  # SQLite finds a partial index only by the very words of its condition


def _way(key: Any, where: ColumnElement[bool]) -> Way:
    return Way(select(key.label("id")).where(where).order_by(key.desc()), key)


def _domains(conn: Connection, project: int, name: str) -> list[str]:
    """This domain and those below it that the project has sent from."""
    return [each for each in totals.names(conn, project, totals.DOMAIN) if each == name or each.endswith(f".{name}")]


def _matching(conn: Connection, project: int, wanted: Filter, candidates: Select[Any]) -> Select[Any]:
    """All matching emails of at most MOST candidates.

    The candidates are the project's; to say so again would make SQLite walk the project instead.
    """
    return select(_id).where(_id.in_(candidates), *_conditions(conn, project, wanted)).order_by(*_NEWEST)


def _of_state(conn: Connection, project: int, wanted: Filter, way: Way) -> Select[Any] | None:
    """The matching emails of a way whose every email has the status asked for: what is left to ask is less; None of another way."""
    if wanted.status in (None, QUEUED) or wanted.to is not None or wanted.tag is not None or way.key is _id:
        return None
    rest = _conditions(conn, project, replace(wanted, status=None))
    return way.ids.where(_nothing_before(wanted.status, way.key), *([exists().where(_id == way.key, *rest)] if rest else [])).distinct()


def _page(conn: Connection, query: Select[Any], which: Page) -> Hits:
    """The page of a question that so few emails match that all are counted."""
    found = list(conn.scalars(query))
    start = (which.number - 1) * which.size
    if which.after is not None:
        start = next((place for place, number in enumerate(found) if number < which.after), len(found))
    return Hits(found[start:start + which.size], start + which.size < len(found), len(found))


def _walked(conn: Connection, project: int, wanted: Filter, way: Way, which: Page) -> Hits:
    """The page of a way that has more than MOST candidates."""
    conditions = _conditions(conn, project, wanted)
    own, stated = way.key is _id, _of_state(conn, project, wanted, way)
    query = way.ids
    if own:
        query = query.where(*conditions)
    elif stated is not None:
        query = stated
    elif len(wanted.names) > 1 or wanted.status is not None:
        query = query.where(exists().where(_id == way.key, *conditions)).distinct()
    total, exact = _total(conn, project, wanted, query)
    if not exact and which.after is None and (which.number - 1) * which.size >= DEEP:
        raise Invalid("page", f"pages by number end at {DEEP:,} emails where more match than are counted; go on with `cursor` (`next_cursor` of a page)")
    walk = query.limit(which.size + 1)
    if which.after is not None:
        walk = walk.where(after(conn, which.after) if own else way.key < which.after)
    elif which.number > 1:
        walk = walk.offset((which.number - 1) * which.size)
    found = list(conn.scalars(walk))
    return Hits(found[:which.size], len(found) > which.size, total, exact)


def _total(conn: Connection, project: int, wanted: Filter, query: Select[Any]) -> tuple[int, bool]:
    """How many match, and whether that is all of them."""
    asked = set(wanted.names)
    if not asked:
        return totals.of(conn, project, totals.ALL), True
    if asked == {"tag"}:
        return totals.of(conn, project, totals.TAG, wanted.tag), True
    if asked == {"domain"}:
        return sum(totals.of(conn, project, totals.DOMAIN, name) for name in _domains(conn, project, wanted.domain)), True
    if asked <= {"since", "until"}:
        counted = conn.scalar(select(func.count()).select_from(query.limit(COUNTED + 1).subquery())) or 0
        return min(counted, COUNTED), counted <= COUNTED
    counted = conn.scalar(select(func.count()).select_from(query.limit(MOST + 1).subquery())) or 0
    return min(counted, MOST), counted <= MOST


def after(conn: Connection, number: int) -> ColumnElement[bool]:
    """What comes after this email, also when retention has taken it: an id begins with its milliseconds."""
    at = conn.scalar(select(messages.c.created_at).where(_id == number))
    return tuple_(messages.c.created_at, _id) < tuple_(((number >> 21) + EPOCH) / 1000 if at is None else at, number)


def _conditions(conn: Connection, project: int, wanted: Filter) -> list[ColumnElement[bool]]:
    """What a row of messages must have."""
    parts = dates(wanted)
    if wanted.status is not None:
        parts.append(_status(wanted.status))
    if wanted.domain is not None:
        parts.append(messages.c.domain.in_(_domains(conn, project, wanted.domain)))
    if wanted.to is not None:
        parts.append(exists().where(recipients.c.message_id == _id, recipients.c.key == wanted.to))
    if wanted.tag is not None:
        parts.append(exists().where(email_tags.c.project_id == project, email_tags.c.tag == wanted.tag, email_tags.c.message_id == _id))
    return parts


def dates(wanted: Filter) -> list[ColumnElement[bool]]:
    """What a row of messages must have to be of the time asked for."""
    parts: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        parts.append(messages.c.created_at >= wanted.since)
    if wanted.until is not None:
        parts.append(messages.c.created_at < wanted.until)
    return parts


def _status(status: str) -> ColumnElement[bool]:
    """That some recipient has the state, and none has one that comes before it in STATUS (B18)."""
    if status not in STATUS:
        return false()
    before = STATUS[:STATUS.index(status)]
    return and_(_any_in((status,)), not_(_any_in(before))) if before else _any_in((status,))


def _nothing_before(status: str, key: ColumnElement[int]) -> ColumnElement[bool]:
    """That no recipient of an email, one of whom has the state, has one that comes before it in STATUS."""
    people = recipients.alias()
    return not_(exists().where(people.c.message_id == key, people.c.state.in_(STATUS[:STATUS.index(status)])))


def _any_in(states: Sequence[str]) -> ColumnElement[bool]:
    return exists().where(recipients.c.message_id == _id, or_(*(recipients.c.state == state for state in states)))
