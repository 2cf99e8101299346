"""A slice of an import, merged into the contacts by a fixed number of statements, however many rows it has: mail waits for one at most.

    rows ──► import_rows, a temporary table ──► suppressed? ──► contacts: made where the address is new ──► the others: merged, if anything is new
                                            ──► history, opt-outs, evidence of consent, targets ──► how far the import is

Python touches only rows that opt somebody out or prove a consent. The place that the import has reached is part of the same transaction, so a slice is in
once, whatever crash or repetition comes between. SQLite takes rows as VALUES and merges by json_patch, PostgreSQL by COPY and jsonb; the rest is the same SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from relay.mail.ids import Maker
from relay.store import bulk, events, suppressions
from relay.store.audience import changes, contacts, history, merging, segments, topics
from relay.store.audience.history import Entry
from relay.store.audience.imports import Fault, Import, note
from relay.store.audience.schema import contacts as table
from relay.store.events import Event
from relay.store.schema import suppressions as stopped
from relay.store.suppressions import ALL, MARKETING, Suppression
from relay.store.workflows import hearing

LEFT, BOUNCED = "unsubscribe", "hard_bounce"
TAGS = 100  # of a contact
SIZE = 65_536  # characters of all properties as JSON

@dataclass(frozen=True, slots=True)
class Part:
    """A slice: `rows` are tuples of merging.COLUMNS, or in their place `lines` for PostgreSQL, as merging.lines gives them; `through` is the file's row it
    ends with; `figures` what the reader counted.

    cleaned  rows of addresses that bounced
    told     whether any row says that somebody left or opted in
    """

    through: int
    rows: Sequence[tuple[Any, ...]]
    count: int
    faults: list[Fault]
    figures: dict[str, int]
    cleaned: int = 0
    told: bool = False
    lines: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import shall do: update those that are there or leave them, where to put everybody, whether each contact's change is an event."""

    update: bool = True
    audience: int | None = None
    segment: int | None = None
    tell: bool = False


@dataclass(slots=True)
class Taking:
    """One slice at work."""

    conn: Connection
    job: Import
    plan: Plan
    faults: list[Fault] = field(default_factory=list)

    def run(self, statement: str, **more: Any) -> Any:
        """The result of a statement in which :project, :import and :now stand for the import's."""
        return merging.run(self.conn, statement, self._values(more))

    def does(self, statement: str, **more: Any) -> int:
        """How many rows such a statement has changed."""
        return merging.does(self.conn, statement, self._values(more))

    def _values(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"project": self.job.project_id, "import": self.job.id, "now": self.job.created_at, **more}

    @property
    def evidence(self) -> dict[str, Any]:
        return {"import_id": self.job.public_id}


def take_in(conn: Connection, job: Import, plan: Plan, part: Part, maker: Maker) -> dict[str, Any] | None:
    """The figures of the import after this slice; None when the slice before is not in, this one was in already, or the import is over.

    job    the import; `reached` is the row that the slice before ends with
    maker  of the contacts' ids

    The rows are loaded before anything is locked.
    """
    at = Taking(conn, job, plan, list(part.faults))
    _load(at, part, maker)
    reached = merging.reach(conn, {"project": job.project_id, "import": job.id, "before": job.reached, "through": part.through})
    if reached is None:
        return None
    before, forgotten, tracked = reached
    stopped = at.does(merging.STOPPED)
    suppressed = at.does(merging.SUPPRESSED) if stopped else 0
    imported = at.does(merging.MAKE)
    there = part.count - part.cleaned - suppressed - imported
    if there or part.cleaned:
        at.does(merging.FIND)
        at.does(merging.FRESH)
    at.does(merging.HISTORY, evidence=bulk.json(at.evidence))
    changed = _merge(at) if plan.update and there else []
    there -= len(at.faults) - len(part.faults)
    _consent(at, part, stopped > suppressed, forgotten)
    _targets(at)
    if plan.tell:
        _tell(at, changed)
    if tracked:
        _follow(at)
    if plan.update and there and not plan.tell:  # who waits for a date hears of changes that are told
        hearing.look_again(conn, list(at.run(merging.KNOWN).scalars()), job.created_at)
    more = {"imported": imported, "updated": there if plan.update else 0, "suppressed": suppressed, "errors": len(at.faults),
            "skipped": part.count - imported - (there if plan.update else 0) - (len(at.faults) - len(part.faults))}
    figures = added(added(_value(before), part.figures), more)
    note(conn, job.id, figures, at.faults)
    return figures


def added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The sums of figures."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def looked(conn: Connection, project: int, part: Part) -> tuple[int, int]:
    """How many of these rows are contacts already and not suppressed, and how many are suppressed."""
    keys = bulk.json([row[2] for row in part.rows])
    row = merging.run(conn, merging.LOOKED, {"project": project, "keys": keys}).one()
    return row[0], row[1]


def _load(at: Taking, part: Part, maker: Maker) -> None:
    """The rows, each with an id for the contact and one for its history, into the temporary table."""
    following = at.conn.info["ids"].next
    if at.conn.dialect.name == "postgresql":
        rows = [(number, number, following(), line) for line in part.lines or merging.lines(part.rows) for number in (maker.next(),)]
    else:
        rows = [(number, number, following(), *row) for row in part.rows for number in (maker.next(),)]
    merging.load(at.conn, rows)


def _merge(at: Taking) -> list[tuple[Any, ...]]:
    """Put what the rows say into contacts that were there; gives (id, email, properties before and after) of those for which it is new, if that is to be
    told."""
    at.does(merging.MERGED)
    for number, email, tags in at.run(merging.CROWDED, tags=TAGS, size=SIZE).all():
        why = f"a contact has at most {TAGS} tags" if tags > TAGS else f"the properties of a contact have at most {SIZE} octets"
        at.faults.append(Fault(number, email, why))
    if not at.run(merging.NEWS).scalar():
        return []
    renamed = at.run(merging.RENAMED).all()
    at.does(merging.BEFORE)
    changed = [tuple(row) for row in at.run(merging.CHANGING).all()] if at.plan.tell else []
    at.does(merging.UPDATE)
    bulk.update(at.conn, table, "id", ("search",), [(row[0], searched(*row[1:])) for row in renamed])
    return changed


def searched(*parts: str | None) -> str:
    """What a search looks through: address and names, folded."""
    return contacts.fold(" ".join(part for part in parts if part))


# Consent.


def _consent(at: Taking, part: Part, stopped: bool, forgotten: bool) -> None:
    """Opt-outs and bounces of the file, and what those who are new here had said before, if they are `stopped` by it or hashes of the `forgotten` may tell;
    proofs of consent go into the history."""
    leaving = [(row, "import", row.left_at) for row in at.run(merging.LEAVING).all()] if part.told else []
    if stopped:
        leaving += [(row, "earlier", at.job.created_at) for row in at.run(merging.LEFT_BEFORE).all()]
    if forgotten:
        leaving += [(row, "earlier", at.job.created_at) for row in at.run(merging.REMEMBERED).all()]
    _leave(at, leaving)
    if part.cleaned:
        for row in at.run(merging.BOUNCING).all():
            _bounce(at, row)
    if part.told:
        history.append(at.conn, [Entry(row.contact_id, proof["at"], "subscribed", "import", {**proof, **at.evidence})
                                 for row in at.run(merging.PROOFS).all() for proof in [_value(row.evidence)]])


def _leave(at: Taking, leaving: Sequence[tuple[Any, str, float]]) -> None:
    """Write opt-outs down, without events; each is a row of (contact_id, key, email, scope, unsubscribed, updated), its source and its time."""
    following, project, entries, gone, told = at.conn.info["ids"].next, at.job.project_id, [], {}, []
    for row, source, when in leaving:
        scope = MARKETING if row.scope == ALL else row.scope
        evidence = {"source": source, "batch": at.job.public_id, **at.evidence, **_reasons(row)}
        entries.append(_entry(Suppression(following(), project, row.key, row.email, LEFT, scope, evidence, when)))
        topic = topics.scoped(scope)
        if topic is None and not row.unsubscribed and row.contact_id not in gone:
            gone[row.contact_id] = (row.contact_id, True, when, row.updated)
            told.append(Entry(row.contact_id, when, "unsubscribed", source, evidence))
        elif topic and topics.set_state(at.conn, contacts.get(at.conn, project, row.contact_id), topic, False, when):
            told.append(Entry(row.contact_id, when, "topic_unsubscribed", source, {**evidence, "topic_id": topics.public(topic)}))
    bulk.insert_new(at.conn, stopped, entries)
    bulk.update(at.conn, table, "id", ("unsubscribed", "unsubscribed_at", "updated_at"), list(gone.values()))
    history.append(at.conn, told)


def _bounce(at: Taking, row: Any) -> None:
    """The address does not exist, says who sent to it before: suppressed for everything; a contact that there is, is unsubscribed."""
    evidence = {"source": "import", "batch": at.job.public_id, **at.evidence, **_reasons(row)}
    entry = Suppression(at.conn.info["ids"].next(), at.job.project_id, row.key, row.email, BOUNCED, ALL, evidence, row.cleaned_at)
    suppressions.add(at.conn, entry)
    if row.contact_id is not None and contacts.set_unsubscribed(at.conn, row.contact_id, True, row.cleaned_at):
        history.append(at.conn, [Entry(row.contact_id, row.cleaned_at, "unsubscribed", "import", evidence)])


def _reasons(row: Any) -> dict[str, Any]:
    """What the file says of why."""
    return {name: value for name, value in (_value(getattr(row, "evidence", None)) or {}).items() if name in ("reason", "list")}


def _entry(entry: Suppression) -> tuple[Any, ...]:
    values = {name: getattr(entry, name) for name in Suppression.__slots__} | {"evidence": bulk.json(entry.evidence)}
    return tuple(values[name] for name in bulk.columns_of(stopped))


def _targets(at: Taking) -> None:
    """Everybody whom the file names, and who may have mail, into the audience and the segment."""
    if at.plan.audience is not None:
        at.does(merging.AUDIENCE, audience=at.plan.audience)
    if at.plan.segment is not None:
        segments.put(at.conn, at.plan.segment, list(at.run(merging.EVERYBODY).scalars()), at.job.created_at)


def _follow(at: Taking) -> None:
    """Memberships follow; nobody is told of each, unless that was asked for."""
    with nullcontext() if at.plan.tell else changes.quietly(at.conn):
        changes.note(at.conn, list(at.run(merging.EVERYBODY).scalars()))


def _tell(at: Taking, changed: Sequence[tuple[Any, ...]]) -> None:
    """An event for each contact, because whoever imports asked for it."""
    job = at.job
    told = [("contact.created", row[0], {"email": row[1]}) for row in at.run(merging.MADE).all()]
    for number, email, before, after in changed:
        differing = contacts.differing(_value(before), _value(after))
        told.append(("contact.updated", number, {"email": email, **({"properties": differing} if differing else {})}))
    events.append(at.conn, [Event(job.project_id, kind, job.created_at, contact_id=number, data={**data, **at.evidence}) for kind, number, data in told])


def _value(json: Any) -> Any:
    """What a JSON column of the temporary table holds."""
    return orjson.loads(json) if isinstance(json, str) else json
