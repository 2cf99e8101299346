"""Pages of long lists: by number, as people ask, or after the last row of the page before.

Rows are ordered by their id, newest first unless said otherwise; ids grow with time, so that is the order of creation. `Found.last` is what the next page by
cursor starts after.

A list of more than LONG rows that has a `name` is walked through once in TTL seconds: that gives its total, and anchors, ids from which a page by number is a
short way (B19). Rows are read anew for every page, and those that were added since are counted, so only what was deleted or stopped matching can make a total,
or the edge between two pages, up to TTL seconds old. Shorter lists are counted each time, unless they are picked from very many rows.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Select, func, select

from relay.store import plans

LONG = 10_000  # rows that are counted each time
STEP = 10_000  # rows between two anchors: a page by number skips half as many on average
MANY = 50_000  # rows from which picking some is a long way
LEAST = 200  # rows between two anchors of a list whose rows are far apart
HOP = 0.02  # seconds that a way from one anchor to the next should take
TTL = 60.0  # seconds
SAMPLES = 64  # lists whose anchors are kept
ANCHORS = 500  # of a list whose rows are rare


@dataclass(frozen=True, slots=True)
class Page:
    """`number` from 1, `size` in rows; with `after`, the id of the last row seen, the number only labels the answer."""

    number: int = 1
    size: int = 20
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`rows` of the page, `total` over all pages, or at least that many when not `exact`; `last` the id to go on after, None on the last page."""

    rows: list[Any]
    total: int
    last: int | None = None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """A long list as it was at a time (monotonic seconds): its length, its first id, and the ids before each further `step` rows."""

    total: int
    first: int
    anchors: tuple[int, ...]
    step: int
    at: float


class Samples:
    """The samples of a store's long lists, by their names; the least used go first."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, Sample] = OrderedDict()
        self._large: dict[Hashable, int] = {}  # rows of which a list is known to have more

    def get(self, name: Hashable) -> Sample | None:
        found = self._found.get(name)
        return None if found is None or time.monotonic() - found.at > TTL else found

    def put(self, name: Hashable, sample: Sample) -> None:
        self._found[name] = sample
        self._found.move_to_end(name)
        while len(self._found) > SAMPLES:
            self._found.popitem(last=False)

    def large(self, conn: Connection, query: Select[Any], name: Hashable, most: int | None = None) -> bool:
        """Whether a query over an index has more than `most` rows, without it MANY; one that had them once counts for ever."""
        most = MANY if most is None else most
        if self._large.get(name, 0) < most and conn.scalar(query.offset(most).limit(1)) is not None:
            self._large[name] = most
        return self._large.get(name, 0) >= most

    def forget(self) -> None:
        """Rows were deleted."""
        self._found.clear()


def take(
    conn: Connection, query: Select[Any], key: ColumnElement[int], page: Page, newest_first: bool = True, name: Hashable = None, rare: bool = False,
) -> Found:
    """One page of the query, whose rows have the column `key`.

    name  what tells this list from all others of the store, its filters too; without one every match is counted, so such a query must be narrow
    rare  its rows are picked from so many others that counting even few takes long
    """
    skip, edge = (page.number - 1) * page.size, None
    total, found = _length(conn, query, key, newest_first, name, rare)
    if found is not None:
        later = conn.scalar(_after(query.with_only_columns(func.count()), key, found.first, not newest_first)) or 0
        total = found.total + later
        skip, edge = _nearest(found, skip, later)
    wanted = query.order_by(key.desc() if newest_first else key).limit(page.size + 1)
    if page.after is not None:
        wanted = _after(wanted, key, page.after, newest_first)
    elif page.number > 1:
        wanted = (wanted if edge is None else _after(wanted, key, edge, newest_first)).offset(skip)
    if found is not None:
        plans.in_order(conn)
    rows = conn.execute(wanted).all()
    more = len(rows) > page.size
    rows = rows[:page.size]
    return Found(list(rows), total, getattr(rows[-1], key.key) if more else None)


def _length(
    conn: Connection, query: Select[Any], key: ColumnElement[int], newest_first: bool, name: Hashable, rare: bool,
) -> tuple[int, Sample | None]:
    """How many rows a query has; with a sample when that is a long list, or rows are rare."""
    if name is None:
        return _counted(conn, query, key), None
    samples: Samples = conn.info["samples"]
    if (found := samples.get(name)) is not None:
        return found.total, found
    started = time.monotonic()
    numbers = _first(conn, query, key, newest_first) if rare else []
    total = len(numbers) if rare else _counted(conn, query, key, STEP + 1)
    if total > STEP:
        found = _walked(conn, query, key, newest_first)
    elif numbers:
        found = _sparse(numbers, started)
    if found is None or (found.total <= LONG and not rare):
        return found.total if found else total, None
    samples.put(name, found)
    return found.total, found


def _first(conn: Connection, query: Select[Any], key: ColumnElement[int], newest_first: bool) -> list[int]:
    """The first STEP ids and one more, if there are so many. From SQLite as one value: its driver lets go of the interpreter at every row."""
    some = _ordered(query, key, newest_first).limit(STEP + 1)
    if conn.dialect.name != "sqlite":
        return list(conn.scalars(some))
    listed = some.subquery()
    return sorted(orjson.loads(conn.scalar(select(func.json_group_array(listed.c[key.key]))) or "[]"), reverse=newest_first)


def _sparse(numbers: list[int], started: float) -> Sample:
    """A list of few rows among very many: the way from an anchor to the next is a part of the way through all of it, which has just been gone."""
    total, took = len(numbers), time.monotonic() - started
    step = max(1, -(-total // ANCHORS), int(total * HOP / took) if took > HOP else total)
    return Sample(total, numbers[0], tuple(numbers[step - 1::step]), step, started)


def _counted(conn: Connection, query: Select[Any], key: ColumnElement[int], most: int | None = None) -> int:
    """How many rows a query has, counted up to `most`."""
    return conn.scalar(select(func.count()).select_from(query.with_only_columns(key).order_by(None).limit(most).subquery())) or 0


def _ordered(query: Select[Any], key: ColumnElement[int], newest_first: bool) -> Select[Any]:
    return query.with_only_columns(key).order_by(key.desc() if newest_first else key)


def _after(query: Select[Any], key: ColumnElement[int], number: int, newest_first: bool) -> Select[Any]:
    return query.where(key < number if newest_first else key > number)


def _nearest(sample: Sample, skip: int, later: int) -> tuple[int, int | None]:
    """How many rows to skip after which id (None = from the start), to skip so many in all, of which `later` came after the sample was made."""
    place = min((skip - later) // sample.step, len(sample.anchors))
    return (skip - later - place * sample.step, sample.anchors[place - 1]) if place > 0 else (skip, None)


def _walked(conn: Connection, query: Select[Any], key: ColumnElement[int], newest_first: bool) -> Sample:
    """A long list, walked through from anchor to anchor; in one pass, with anchors closer together, where that is a long way."""
    numbers, started = _ordered(query, key, newest_first), time.monotonic()
    first, step = conn.scalar(numbers.limit(1)) or 0, STEP
    following = conn.scalar(numbers.offset(step - 1).limit(1))
    if following is not None and (took := time.monotonic() - started) > HOP:
        step = max(LEAST, int(step * HOP / took))
        anchors = _spread(conn, query, key, newest_first, step)
    else:
        anchors = []
        while following is not None:
            anchors.append(following)
            following = conn.scalar(_after(numbers, key, following, newest_first).offset(step - 1).limit(1))
    rest = _after(query, key, anchors[-1], newest_first) if anchors else query
    return Sample(len(anchors) * step + _counted(conn, rest, key), first, tuple(anchors), step, started)


def _spread(conn: Connection, query: Select[Any], key: ColumnElement[int], newest_first: bool, step: int) -> list[int]:
    """Each `step`-th id, in order."""
    place = func.row_number().over(order_by=key.desc() if newest_first else key).label("place")
    ranked = query.with_only_columns(key.label("number"), place).order_by(None).subquery()
    return list(conn.scalars(select(ranked.c.number).where(ranked.c.place % step == 0).order_by(ranked.c.place)))
