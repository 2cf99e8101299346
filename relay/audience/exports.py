"""Exports: everything that a project has of its audience, as CSV or JSON, a page at a time.

    kind            a row
    --------------  ----------------------------------------------------------------------------------------------------------------
    contacts        a contact: its fields, a column for each property, and `properties`, JSON of what a column alone would not give back
    audiences       a member: id and audience, description, email; an audience of nobody has one row without email
    segments        a definition: id, name, description, audience, tracked, rules (JSON; none = its members are a list); after those that it asks about
    members         a member of a segment that is a list: segment, email
    subscriptions   what a contact said of a topic: email, topic, subscribed, updated_at
    history         what a contact agreed to or took back: email, at, act, source, evidence (JSON)
    topics, properties, suppressions   one of them

CSV is defused (relay.audience.cells) and goes through an import without loss. JSON is an array with a row a line, so that it can be read by the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec
import orjson

from relay import clock
from relay.audience.cells import defused, shown
from relay.audience.columns import PROPERTIES, named
from relay.audience.grammars import read
from relay.mail import ids
from relay.store.audience import exports as store
from relay.store.audience.rules import segments
from relay.store.engine import Store
from relay.store.suppressions import said

CSV, JSON = "csv", "json"
CONTACTS = "contacts"
START = (0, 0)


class Export(msgspec.Struct, frozen=True):
    """What to export: a kind of KINDS, or contacts of a segment or an audience; `now` is the time for segments that ask for one."""

    project: int
    kind: str = CONTACTS
    form: str = CSV
    segment: int | None = None
    audience: int | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """`pages(store, export, start)` gives rows in the order of the columns, a page at a time, each with the place after it."""

    columns: tuple[str, ...]
    pages: Callable[[Store, Export, tuple[int, int]], AsyncIterator[tuple[tuple[int, int], list[Sequence[Any]]]]]


async def pieces(opened: Store, export: Export, start: tuple[int, int] = START) -> AsyncIterator[tuple[tuple[int, int], bytes]]:
    """The octets of an export from a place on, with the place after each piece; what stands before and after all rows is not among them."""
    kind = KINDS[export.kind]
    named_ = await _names(opened, export)
    show = _json(kind.columns) if export.form == JSON else _rows(named_) if export.kind == CONTACTS else _csv
    if export.kind == CONTACTS and export.form == JSON:
        show = _contacts
    async for place, rows in kind.pages(opened, export, start):
        if rows:
            yield place, show(rows)


async def head(opened: Store, export: Export) -> bytes:
    """What stands before the first row."""
    if export.form == JSON:
        return b"["
    if export.kind != CONTACTS:
        return _csv([KINDS[export.kind].columns])
    return _csv([(*store.CONTACT[:-1], *map(named, await _names(opened, export)), PROPERTIES)])


def tail(export: Export) -> bytes:
    """What stands after the last row."""
    return b"\n]\n" if export.form == JSON else b""


async def _names(opened: Store, export: Export) -> list[str]:
    if export.kind != CONTACTS or export.form == JSON:
        return []
    return await opened.read(store.property_names, export.project)


# Forms.


@lru_cache(4_096)
def iso(seconds: float | None) -> str | None:
    """As relay.clock.iso, remembered: contacts of one import have one time."""
    return clock.iso(seconds)


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([[defused(shown(cell)) for cell in row] for row in rows])
    return buffer.getvalue().encode()


def _rows(names: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], bytes]:
    """How contacts become lines of CSV with columns for these properties.

    The cells that people wrote are looked at together: only where one of them may need quotes, or a mark, are all of them written one by one.
    """
    known, separators = frozenset(names), 4 + max(1, len(names))

    def line(row: Sequence[Any]) -> str:
        _, email, first, last, unsubscribed, tags, created, updated, left, active, given = row
        properties = orjson.loads(given)
        exact = {name: value for name, value in properties.items() if type(value) is not str or not value or name not in known}
        cells = [value if type(value := properties.get(name)) is str else shown(value) for name in names]
        columns = ",".join(cells)
        told = f",{email},{first or ''},{last or ''},{columns},"
        if not told.isprintable() or told.count(",") != separators or _ODD.search(told):
            email, first, last, columns = _line((email,)), _line((first or "",)), _line((last or "",)), _line(cells)
        elsewhere = _quoted(shown(exact)) if exact else ""
        return (f"{email},{first or ''},{last or ''},{'true' if unsubscribed else 'false'},{_tags(tags)},{iso(created)},{iso(updated)},{iso(left) or ''},"
                f"{iso(active) or ''},{columns}{',' if names else ''}{elsewhere}\r\n")

    return lambda rows: "".join(map(line, rows)).encode()


_ODD = re.compile(r"""["]|,['=+@ -]| ,""")
"""In printable cells between commas: what CSV puts quotes around, or `defused` may put a mark before. Space is the only white space that is printable."""


def _line(cells: Sequence[str]) -> str:
    """Cells between commas, defused and quoted where they need it."""
    return ",".join([_quoted(found) if _QUOTABLE.search(found := defused(cell)) else found for cell in cells])


_QUOTABLE = re.compile(r'[",\r\n]')


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@lru_cache(4_096)
def _tags(given: str) -> str:
    """A cell of tags between commas, as JSON where that would not come back; `given` is JSON."""
    tags = orjson.loads(given)
    if not tags:
        return ""
    odd = any(tag != tag.strip() or any(c in tag for c in ',;"') or " ::: " in tag for tag in tags) or tags[0].startswith(("[", "* "))
    return _line([orjson.dumps(tags).decode() if odd else ",".join(tags)])


def _json(columns: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], bytes]:
    return lambda rows: _objects([dict(zip(columns, row, strict=True)) for row in rows])


def _objects(found: Sequence[dict[str, Any]]) -> bytes:
    return b",".join(b"\n" + orjson.dumps(each) for each in found)


def _contacts(rows: Sequence[Sequence[Any]]) -> bytes:
    return _objects([{
        "id": ids.public("ct", row[0]), "email": row[1], "first_name": row[2], "last_name": row[3],
        "properties": orjson.Fragment(shown(orjson.loads(row[10]))), "tags": _list(row[5]),
        "unsubscribed": bool(row[4]), "unsubscribed_at": iso(row[8]), "last_active_at": iso(row[9]), "created_at": iso(row[6]), "updated_at": iso(row[7]),
    } for row in rows])


@lru_cache(4_096)
def _list(given: str) -> orjson.Fragment:
    """Tags as JSON that reads the same whichever database spelled it; contacts share theirs."""
    return orjson.Fragment(orjson.dumps(orjson.loads(given)))


# Kinds.

Pages = AsyncIterator[tuple[tuple[int, int], list[Sequence[Any]]]]


async def _people(opened: Store, export: Export, start: tuple[int, int]) -> Pages:
    after = start[1]
    while True:
        if export.segment is not None:
            rows = await opened.read(store.members, export.project, after, export.segment, export.now, read)
        else:
            rows = await opened.read(store.people, export.project, after, export.audience)
        if rows:
            after = rows[-1][0]
            yield (0, after), rows
        if len(rows) < store.PAGE:
            return


def _flat(fn: Callable[..., list[Any]], show: Callable[[Any], Sequence[Any]]) -> Callable[[Store, Export, tuple[int, int]], Pages]:
    """The pages of a list of the project."""
    async def pages(opened: Store, export: Export, start: tuple[int, int]) -> Pages:
        after = start[1]
        while rows := await opened.read(fn, export.project, after):
            after = rows[-1][0]
            yield (0, after), [show(row) for row in rows]

    return pages


def _nested(outer: Callable[..., list[Any]], inner: Callable[..., list[Any]], show: Callable[[Any, Any], Sequence[Any] | None],
            wanted: Callable[[Any], bool] = lambda _: True) -> Callable[[Store, Export, tuple[int, int]], Pages]:
    """The pages of what hangs on each of a project's lists; `show(list, None)` is the row of one with nothing on it, or None."""
    async def pages(opened: Store, export: Export, start: tuple[int, int]) -> Pages:
        done, after = start
        while some := await opened.read(outer, export.project, max(0, done - 1)):
            for each in some:
                after = after if each[0] == done else 0
                done, empty = each[0], after == 0
                while wanted(each) and (rows := await opened.read(inner, done, after)):
                    after, empty = rows[-1][0], False
                    yield (done, after), [row for row in (show(each, one) for one in rows) if row is not None]
                if empty and wanted(each) and (alone := show(each, None)) is not None:
                    yield (done, 1), [alone]
            if len(some) < store.PAGE:
                return
            done, after = done + 1, 0

    return pages


async def _definitions(opened: Store, export: Export, start: tuple[int, int]) -> Pages:
    """All segments at once, of which a project has a thousand at most, so that whoever makes them again finds those that the rules name."""
    rows: list[Any] = []
    while some := await opened.read(store.of_segments, export.project, rows[-1][0] if rows else start[1]):
        rows += some
    if rows:
        yield (0, rows[-1][0]), [(ids.public("seg", row[0]), row[1], row[2], row[3], bool(row[4]), row[5]) for row in _in_order(rows)]


def _in_order(rows: Sequence[Any]) -> list[Any]:
    """Definitions, each after those that it asks about."""
    by_number = {row[0]: row for row in rows}
    asked = {number: set() if row[5] is None else segments(read(row[5])) & by_number.keys() for number, row in by_number.items()}
    try:
        return [by_number[number] for number in TopologicalSorter(asked).static_order()]
    except CycleError:  # two nodes may have made one at the same moment; such rules have no members
        return list(rows)


KINDS: dict[str, Kind] = {
    CONTACTS: Kind(store.CONTACT, _people),
    "audiences": Kind(("id", "audience", "description", "email"), _nested(
        store.of_audiences, store.in_audience, lambda each, one: (ids.public("aud", each[0]), each[1], each[2], one[1] if one else None))),
    "segments": Kind(("id", "name", "description", "audience", "tracked", "rules"), _definitions),
    "members": Kind(("segment", "email"), _nested(
        store.of_segments, store.in_segment, lambda segment, one: (ids.public("seg", segment[0]), one[1]) if one else None, lambda row: row[5] is None)),
    "topics": Kind(("id", "name", "description"), _flat(store.of_topics, lambda row: (ids.public("top", row[0]), row[1], row[2]))),
    "subscriptions": Kind(("email", "topic", "subscribed", "updated_at"), _nested(
        store.of_topics, store.of_topic, lambda topic, one: (one[1], topic[1], bool(one[2]), iso(one[3])) if one else None)),
    "history": Kind(("email", "at", "act", "source", "evidence"), _flat(
        store.of_history, lambda row: (row[1], iso(row[2]), row[3], row[4], row[5]))),
    "suppressions": Kind(("email", "reason", "scope", "evidence", "created_at"), _flat(
        store.of_suppressions, lambda row: (row[1], row[2], row[3], said(row[4]), iso(row[5])))),
    "properties": Kind(("name", "label", "type", "options", "required"), _flat(
        store.of_properties, lambda row: (row[1], row[2], row[3], row[4], bool(row[5])))),
}
