"""Imports of contacts: rows of a file or a request, in small slices, so that mail never waits for one.

    row ── checked (address, types) ── first of its address? ── domain has mail? ── suppressed? ──► new: made; there: updated or left; with all targets

The first row of an address counts, later ones are duplicates; an empty cell changes nothing. Nobody is subscribed again, no suppression is lifted, and no
event tells of single contacts: one `import.completed` ends it. A slice is one transaction of the jobs lane; after a crash an import ends where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from relay import consent, log
from relay.audience import domains, values
from relay.audience.contacts import By
from relay.audience.table import EMAIL, FIRST, LAST, PROPERTY, SUBSCRIBED, TAGS, UNSUBSCRIBED, Line
from relay.delivery.dns import Resolver
from relay.errors import Invalid
from relay.mail.message import MARKETING
from relay.store import events, suppressions
from relay.store.audience import audiences, contacts, history, imports, properties, segments, topics
from relay.store.audience.contacts import Contact
from relay.store.audience.history import Entry
from relay.store.audience.imports import Fault, Import
from relay.store.audience.properties import Property
from relay.store.engine import JOBS, Store
from relay.store.events import Event
from relay.store.suppressions import ALL, Suppression

SLICE = 500  # rows of one transaction
LOOKUPS = 20  # domains looked up at once
SHOWN = 20  # rows of a preview
TOLD = 100  # errors of an answer

LOG = log.get("import")


@dataclass(frozen=True, slots=True)
class Row:
    """A row that may become a contact: `given` as relay.audience.contacts takes it."""

    number: int
    email: str
    key: str
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an import shall do: update those that are there or skip them, and where to put everybody."""

    update: bool = True
    audience: int | None = None
    segment: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class Figures:
    """What an import did so far, by row."""

    total: int = 0
    imported: int = 0
    updated: int = 0
    skipped: int = 0  # duplicates, suppressed, and those that were there and not to be updated
    errors: int = 0
    duplicates: int = 0
    suppressed: int = 0
    invalid: int = 0
    no_mx: int = 0

    def shown(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Importing:
    """An import at work; `faults` are the first errors, for the answer."""

    store: Store
    resolver: Resolver
    by: By
    wish: Wish
    number: int
    figures: Figures = field(default_factory=Figures)
    faults: list[Fault] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)  # hashes of addresses: 40 octets a row

    async def run(self, rows: Iterable[Row | Fault]) -> None:
        """Take all rows in."""
        state = imports.FAILED
        try:
            async for good, faults in self._slices(rows):
                imported, updated, suppressed = await self.store.write(take_in, self, good, lane=JOBS)
                self._count(imported, updated, suppressed, len(good))
                await self.store.write(imports.note, self.number, self.figures.shown(), faults, lane=JOBS)
            state = imports.COMPLETED
        except Exception as error:  # nobody waits for this task any more: whatever it is, the import ends and says so
            LOG.error("import failed", id=self.number, error=type(error).__name__)
        finally:
            await self.store.write(_ended, self, state, lane=JOBS)

    async def preview(self, rows: Iterable[Row | Fault]) -> dict[str, Any]:
        """What `run` would do; nothing is written."""
        existing = 0
        async for good, _ in self._slices(rows):
            there, suppressed = await self.store.read(looked, self.by.project, good)
            existing += there
            self.figures.suppressed += suppressed
            self.shown += [{"email": row.email, **{name: row.given.get(name) for name in ("first_name", "last_name", "properties", "tags")}}
                           for row in good[:SHOWN - len(self.shown)]]
        told = self.figures
        valid = told.total - told.duplicates - told.suppressed - told.invalid - told.no_mx
        return {"total": told.total, "valid": valid, "new": valid - existing, "existing": existing, "duplicates": told.duplicates, "invalid": told.invalid,
                "suppressed": told.suppressed, "no_mx": told.no_mx, "rows": self.shown}

    def _count(self, imported: int, updated: int, suppressed: int, rows: int) -> None:
        told = self.figures
        told.imported += imported
        told.updated += updated
        told.suppressed += suppressed
        told.skipped += rows - imported - updated

    async def _slices(self, rows: Iterable[Row | Fault]) -> Any:
        """The rows to take in and those that cannot be, a slice at a time; parsing happens in a thread."""
        iterator = iter(rows)
        while part := await asyncio.to_thread(_next, iterator):
            self.figures.total += len(part)
            faults = [each for each in part if isinstance(each, Fault)]
            self.figures.invalid += len(faults)
            good = [each for each in part if isinstance(each, Row) and self._first(each.key)]
            again = len(part) - len(faults) - len(good)
            self.figures.duplicates += again
            self.figures.skipped += again
            wrong = await self._domains({row.key.rpartition("@")[2] for row in good})
            lost = [Fault(row.number, row.email, wrong[domain]) for row in good if (domain := row.key.rpartition("@")[2]) in wrong]
            self.figures.no_mx += len(lost)
            self.figures.errors += len(faults) + len(lost)
            self.faults += [*faults, *lost][:TOLD - len(self.faults)]
            yield [row for row in good if row.key.rpartition("@")[2] not in wrong], [*faults, *lost]

    def _first(self, key: str) -> bool:
        if hash(key) in self._seen:
            return False
        self._seen.add(hash(key))
        return True

    async def _domains(self, names: set[str]) -> dict[str, str]:
        """What is wrong with those of the domains that take no mail."""
        gate = asyncio.Semaphore(LOOKUPS)

        async def look(name: str) -> str:
            async with gate:
                return await domains.fault(self.resolver, name)

        listed = sorted(names)
        return {name: wrong for name, wrong in zip(listed, await asyncio.gather(*map(look, listed)), strict=True) if wrong}


def _next(rows: Iterator[Row | Fault]) -> list[Row | Fault]:
    return list(islice(rows, SLICE))


# Rows.


def of_lines(lines: Iterable[Line], definitions: Mapping[str, Property]) -> Iterator[Row | Fault]:
    """The rows of a file."""
    for line in lines:
        email = line.cells.get(EMAIL, "").strip()
        try:
            if line.error:
                raise Invalid("row", line.error)
            if not email:
                raise Invalid(EMAIL, "Email is required")
            yield Row(line.number, email, values.key(email), _given(line.cells, definitions))
        except Invalid as error:
            yield Fault(line.number, email, error.text)


def _given(cells: Mapping[str, str], definitions: Mapping[str, Property]) -> dict[str, Any]:
    given: dict[str, Any] = {name: values.text(cells[name].strip(), name) for name in (FIRST, LAST) if cells.get(name, "").strip()}
    found = {}
    for meaning, cell in cells.items():
        if meaning.startswith(PROPERTY):
            name = meaning[len(PROPERTY):]
            value = values.cell(cell, definitions.get(name), meaning)
            if value is not None:
                found[name] = value
    if found:
        given["properties"] = values.properties(found, definitions)
    if cells.get(TAGS, "").strip():
        given["add_tags"] = values.tags([tag.strip() for tag in cells[TAGS].replace(";", ",").split(",") if tag.strip()])
    if cells.get(UNSUBSCRIBED, "").strip().lower() in ("true", "yes", "1") or cells.get(SUBSCRIBED, "").strip().lower() in ("false", "no", "0"):
        given["unsubscribed"] = True
    return given


def of_objects(given: Sequence[Mapping[str, Any]], definitions: Mapping[str, Property]) -> Iterator[Row | Fault]:
    """The rows of a request; each as `POST /contacts` takes it."""
    for number, each in enumerate(given, 1):
        email = str(each.get("email") or "")
        try:
            checked: dict[str, Any] = {name: values.text(each[name], name) for name in (FIRST, LAST) if each.get(name)}
            if each.get("properties"):
                checked["properties"] = values.properties(each["properties"], definitions)
            if each.get("tags"):
                checked["add_tags"] = values.tags(each["tags"])
            if each.get("unsubscribed") is True:
                checked["unsubscribed"] = True
            yield Row(number, email, values.key(email), checked)
        except Invalid as error:
            yield Fault(number, email, error.text)


# Transactions.


def looked(conn: Any, project: int, rows: Sequence[Row]) -> tuple[int, int]:
    """How many of these rows are contacts already, and how many are suppressed."""
    stopped = {entry.key for entry in suppressions.among(conn, project, [row.key for row in rows]) if entry.scope == ALL}
    there = contacts.by_keys(conn, project, [row.key for row in rows])
    return len(there.keys() - stopped), len(stopped)


def take_in(conn: Any, at: Importing, rows: Sequence[Row]) -> tuple[int, int, int]:
    """Take one slice in: how many were made, how many updated, how many suppressed."""
    by, keys = at.by, [row.key for row in rows]
    entries: dict[str, list[Suppression]] = {}
    for entry in suppressions.among(conn, by.project, keys):
        entries.setdefault(entry.key, []).append(entry)
    wanted = [row for row in rows if not any(entry.scope == ALL for entry in entries.get(row.key, ()))]
    there = contacts.by_keys(conn, by.project, keys)
    new = [_made(at, row) for row in wanted if row.key not in there]
    contacts.add_many(conn, new)
    made = {contact.key: contact for contact in new}
    evidence = {"import_id": Import(at.number, 0, "", {}, 0, None).public_id}
    history.append(conn, [Entry(contact.id, by.act.at, "created", "import", evidence) for contact in new])
    changed = [_changed(conn, at, row, there[row.key]) for row in wanted if row.key in there] if at.wish.update else []
    _opted_out(conn, at, [row for row in wanted if row.given.get("unsubscribed")], made | there, evidence)
    _earlier(conn, at, made, entries, evidence)
    everybody = [*(contact.id for contact in new), *(there[row.key].id for row in wanted if row.key in there)]
    if at.wish.audience is not None:
        audiences.put(conn, at.wish.audience, everybody, by.act.at)
    if at.wish.segment is not None:
        segments.put(conn, at.wish.segment, everybody, by.act.at)
    return len(new), len(changed), len(rows) - len(wanted)


def _made(at: Importing, row: Row) -> Contact:
    now, given = at.by.act.at, row.given
    tags = values.tags([*given.get("add_tags", ()), *at.wish.tags])
    return Contact(at.by.maker.next(), at.by.project, row.key, row.email, given.get(FIRST), given.get(LAST), values.merged({}, given.get("properties", {})),
                   tags, False, None, None, now, now, at.number)


def _changed(conn: Any, at: Importing, row: Row, old: Contact) -> Contact:
    """The contact with what the row says; written if that is anything new."""
    given = row.given
    tags = list(dict.fromkeys([*old.tags, *given.get("add_tags", ()), *at.wish.tags]))[:values.TAGS]
    new = replace(old, first_name=given.get(FIRST, old.first_name), last_name=given.get(LAST, old.last_name), tags=tags,
                  properties=values.merged(old.properties, given.get("properties", {})))
    if new != old:
        contacts.save(conn, replace(new, updated_at=at.by.act.at))
    return new


def _opted_out(conn: Any, at: Importing, rows: Sequence[Row], known: Mapping[str, Contact], evidence: dict[str, Any]) -> None:
    """The file says that these people do not want marketing mail."""
    for row in rows:
        _left(conn, at, known[row.key], MARKETING, "import", evidence)


def _earlier(conn: Any, at: Importing, made: Mapping[str, Contact], entries: Mapping[str, list[Suppression]], evidence: dict[str, Any]) -> None:
    """What those who are new here had opted out of before."""
    hashes = {hash_: key for key in made for hash_ in at.by.hashes(key)}
    for hash_, scopes in history.remembered(conn, at.by.project, list(hashes)).items():
        for scope in sorted(scopes):
            _left(conn, at, made[hashes[hash_]], scope, "earlier", evidence)
    for key, contact in made.items():
        for entry in entries.get(key, ()):
            if entry.reason == consent.LEFT:
                _left(conn, at, contact, entry.scope, "earlier", evidence)


def _left(conn: Any, at: Importing, contact: Contact, scope: str, source: str, evidence: dict[str, Any]) -> None:
    """Write an opt-out down without an event."""
    now, topic = at.by.act.at, topics.scoped(scope)
    suppressions.add(conn, Suppression(at.by.maker.next(), contact.project_id, contact.key, contact.email, consent.LEFT, scope, evidence, now))
    if topic:
        new, act = topics.set_state(conn, contact, topic, False, now), "topic_unsubscribed"
    else:
        new, act = contacts.set_unsubscribed(conn, contact.id, True, now), "unsubscribed"
    if new:
        history.append(conn, [Entry(contact.id, now, act, source, evidence)])


def _ended(conn: Any, at: Importing, state: str) -> None:
    imports.end(conn, at.number, state, at.by.act.at)
    told = {"import_id": Import(at.number, 0, "", {}, 0, None).public_id, "status": state, **at.figures.shown()}
    events.append(conn, [Event(at.by.project, "import.completed", at.by.act.at, data=told)])


def definitions(conn: Any, project: int) -> dict[str, Property]:
    """The typed properties of a project."""
    return properties.of(conn, project)
