"""Contacts: the people a project writes to, found by id or by the normal form of their address, which is unique in a project."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, func, select, update

from relay.errors import NotFound
from relay.mail import ids
from relay.store import bulk, pages
from relay.store.audience import changes
from relay.store.audience.schema import audience_members, contacts
from relay.store.hot import Packed
from relay.store.pages import Found, Page
from relay.store.upsert import insert

KEYS = 500  # addresses or ids of one question
TOLD = 500  # characters of a property's value that an event tells
RECENT = 5_000  # newest of very many contacts, among which a suggestion is looked for anywhere in the name


@dataclass(frozen=True, slots=True)
class Contact:
    """`key` is the address in normal form, `email` as it was given; times in UTC seconds."""

    id: int
    project_id: int
    key: str
    email: str
    first_name: str | None
    last_name: str | None
    properties: dict[str, Any]
    tags: list[str]
    unsubscribed: bool
    unsubscribed_at: float | None
    last_active_at: float | None
    created_at: float
    updated_at: float
    import_id: int | None = None

    @property
    def public_id(self) -> str:
        return ids.public("ct", self.id)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which contacts: what is None does not filter.

    search    a part of the address or of the names, in any case
    rule      a condition that relay.store.audience.segments made
    name      what tells the rule from others, for the totals of long lists
    """

    search: str | None = None
    unsubscribed: bool | None = None
    audience: int | None = None
    rule: ColumnElement[bool] | None = None
    name: Hashable = None


COLUMNS = tuple(contacts.c[name] for name in Contact.__slots__)
CHANGED = ("key", "email", "first_name", "last_name", "properties", "tags", "unsubscribed", "unsubscribed_at", "updated_at")


def fold(text: str) -> str:
    """The text as a search compares it."""
    return unicodedata.normalize("NFC", text.casefold()).replace("\0", "\ufffd")


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What changed of properties, {"plan": {"from": "free", "to": "pro"}}: null is absent, and what is long or no single value is left out on its side."""
    found = {}
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            sides = {"from": old.get(name), "to": new.get(name)}
            found[name] = {side: value for side, value in sides.items() if not isinstance(value, (Mapping, list)) and len(str(value)) <= TOLD}
    return found


def made(row: Any) -> Contact:
    return Contact(*row)


def _search(contact: Contact) -> str:
    return fold(" ".join(part for part in (contact.key, contact.first_name, contact.last_name) if part))


def values(contact: Contact) -> dict[str, Any]:
    """The row of a contact."""
    return {**{name: getattr(contact, name) for name in Contact.__slots__}, "search": _search(contact)}


def add(conn: Connection, contact: Contact) -> bool:
    """Whether it was added: the address may be there already."""
    row = insert(conn, contacts).values(values(contact)).on_conflict_do_nothing(index_elements=["project_id", "key"])
    if conn.execute(row).rowcount == 0:
        return False
    changes.note(conn, [contact.id])
    return True


def add_many(conn: Connection, given: Sequence[Contact]) -> None:
    """Add contacts whose addresses are not there."""
    rows = [values(contact) for contact in given]
    for row in rows:
        row["properties"], row["tags"] = bulk.json(row["properties"]), bulk.json(row["tags"])
    bulk.insert(conn, contacts, [tuple(row[name] for name in bulk.columns_of(contacts)) for row in rows])
    changes.note(conn, [contact.id for contact in given])


def get(conn: Connection, project: int, number: int) -> Contact:
    """Raises NotFound."""
    row = conn.execute(select(*COLUMNS).where(contacts.c.project_id == project, contacts.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Contact not found")
    return made(row)


def by_key(conn: Connection, project: int, key: str) -> Contact | None:
    row = conn.execute(select(*COLUMNS).where(contacts.c.project_id == project, contacts.c.key == key)).one_or_none()
    return None if row is None else made(row)


def locale(conn: Connection, project: int, key: str) -> str:
    """The language that the contact of this address reads, "de" or "de-AT", from their property `locale`; "" when nothing says it."""
    found = conn.scalar(select(contacts.c.properties).where(contacts.c.project_id == project, contacts.c.key == key))
    said = (found or {}).get("locale")
    return said.strip().replace("_", "-") if isinstance(said, str) else ""


def by_keys(conn: Connection, project: int, keys: Iterable[str]) -> dict[str, Contact]:
    """Those of up to KEYS addresses that there are, by their normal form."""
    query = select(*COLUMNS).where(contacts.c.project_id == project, contacts.c.key.in_(list(keys)))
    return {row.key: made(row) for row in conn.execute(query)}


def by_ids(conn: Connection, project: int, numbers: Iterable[int]) -> list[Contact]:
    """Those of up to KEYS ids that are the project's."""
    embedded = conn.dialect.name == "sqlite"
    return [made(row) for row in _by_ids(embedded)(conn, project=project, numbers=bulk.listed(embedded, numbers))]


@cache
def _by_ids(embedded: bool) -> Packed:
    return Packed(select(*COLUMNS).where(contacts.c.project_id == bindparam("project"), bulk.named(embedded, contacts.c.id, "numbers")))


def among(conn: Connection, numbers: Sequence[int]) -> list[Any]:
    """Which of up to KEYS contacts there are, of whatever project: rows with `id` and `project_id`."""
    return list(conn.execute(select(contacts.c.id, contacts.c.project_id).where(contacts.c.id.in_(list(numbers)))))


def save(conn: Connection, contact: Contact) -> None:
    """Write what may change of a contact."""
    row = values(contact)
    conn.execute(update(contacts).where(contacts.c.id == contact.id).values({name: row[name] for name in (*CHANGED, "search")}))
    changes.note(conn, [contact.id])


def set_unsubscribed(conn: Connection, number: int, flag: bool, at: float) -> bool:
    """Whether the contact's flag flipped."""
    changed = update(contacts).where(contacts.c.id == number, contacts.c.unsubscribed != flag)
    if conn.execute(changed.values(unsubscribed=flag, unsubscribed_at=at if flag else None, updated_at=at)).rowcount == 0:
        return False
    changes.note(conn, [number])
    return True


def erase(conn: Connection, numbers: Sequence[int]) -> int:
    """Delete contacts and all that hangs on them; gives how many."""
    conn.info["samples"].forget()
    return conn.execute(delete(contacts).where(contacts.c.id.in_(list(numbers)))).rowcount


def where(project: int, wanted: Filter) -> ColumnElement[bool]:
    tests = [contacts.c.project_id == project]
    if wanted.search:
        tests.append(contacts.c.search.contains(fold(wanted.search), autoescape=True))
    if wanted.unsubscribed is not None:
        tests.append(contacts.c.unsubscribed == wanted.unsubscribed)
    if wanted.audience is not None:
        tests.append(exists().where(audience_members.c.audience_id == wanted.audience, audience_members.c.contact_id == contacts.c.id))
    if wanted.rule is not None:
        tests.append(wanted.rule)
    return and_(*tests)


def paged(conn: Connection, project: int, which: Page, wanted: Filter) -> Found:
    """A page of contacts, newest first."""
    name = ("contacts", project, wanted.search, wanted.unsubscribed, wanted.audience, wanted.name)
    rare = conn.info["samples"].large(conn, select(contacts.c.id).where(contacts.c.project_id == project), name[:2])
    query = select(*COLUMNS).where(where(project, wanted))
    found = pages.take(conn, query, contacts.c.id, which, name=name if wanted.rule is None or wanted.name else None, rare=rare)
    return Found([made(row) for row in found.rows], found.total, found.last)


def many(conn: Connection, project: int, most: int | None = None) -> bool:
    """Whether a project has so many contacts, more than `most`, without it pages.MANY, that to pick some of them takes long."""
    return bool(conn.info["samples"].large(conn, select(contacts.c.id).where(contacts.c.project_id == project), ("contacts", project), most))


def suggested(conn: Connection, project: int, text: str, limit: int) -> list[Contact]:
    """Up to `limit` contacts for who has typed this: whose address begins with it, then those that have it anywhere, of very many only the newest."""
    folded, recent = fold(text), RECENT if many(conn, project) else pages.MANY
    begins = select(*COLUMNS).where(contacts.c.project_id == project, contacts.c.key >= folded, contacts.c.key < f"{folded}\uffff")
    found = {row.id: made(row) for row in conn.execute(begins.order_by(contacts.c.key).limit(limit))} if folded else {}
    newest = select(contacts.c.id).where(contacts.c.project_id == project).order_by(contacts.c.id.desc()).limit(recent)
    within = select(*COLUMNS).where(contacts.c.id.in_(newest), contacts.c.search.contains(folded, autoescape=True)).order_by(contacts.c.id.desc())
    if len(found) < limit:
        found |= {row.id: made(row) for row in conn.execute(within.limit(limit))}
    return list(found.values())[:limit]


def after(conn: Connection, project: int, number: int, wanted: Filter, limit: int) -> list[Contact]:
    """The next contacts by id, oldest first: how exports and bulk acts walk."""
    query = select(*COLUMNS).where(where(project, wanted), contacts.c.id > number).order_by(contacts.c.id).limit(limit)
    return [made(row) for row in conn.execute(query)]


def count(conn: Connection, project: int, wanted: Filter) -> int:
    return conn.scalar(select(func.count()).select_from(contacts).where(where(project, wanted))) or 0
