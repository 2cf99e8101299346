"""Contact properties with a type: a project's own schema for the properties of its contacts. A name without a definition takes any value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import JSONB

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store.audience import changes
from relay.store.audience.schema import bulk_acts, contacts
from relay.store.audience.schema import contact_properties as table
from relay.store.upsert import insert
from relay.store.workflows import hearing

TYPES = ("text", "number", "boolean", "date", "select")
MOST = 200  # definitions of a project
STRIP = "strip"  # the act on many contacts that takes their values of a deleted property


@dataclass(frozen=True, slots=True)
class Property:
    """`type` of TYPES, fixed as the name is; `options` of a select."""

    id: int
    project_id: int
    name: str
    label: str
    type: str
    options: list[str]
    required: bool
    created_at: float

    @property
    def public_id(self) -> str:
        return ids.public("prop", self.id)


_COLUMNS = tuple(table.c[name] for name in Property.__slots__)


def add(conn: Connection, made: Property) -> Property:
    """Raises Conflict when the name is defined already, or its old values are still being taken away, or the project has MOST."""
    if len(of(conn, made.project_id)) >= MOST:
        raise Conflict(f"a project has at most {MOST} properties")
    if made.name in _going(conn, made.project_id):
        raise Conflict(f"the values of the deleted property {made.name} are still being taken away: define it once they are gone")
    row = insert(conn, table).values({name: getattr(made, name) for name in Property.__slots__})
    if conn.execute(row.on_conflict_do_nothing(index_elements=["project_id", "name"])).rowcount == 0:
        raise Conflict(f"the property {made.name} exists already")
    return made


def of(conn: Connection, project: int) -> dict[str, Property]:
    """All of a project's definitions by name, in the order of their making."""
    return {row.name: Property(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project).order_by(table.c.id))}


def get(conn: Connection, project: int, number: int) -> Property:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Property not found")
    return Property(*row)


def change(conn: Connection, project: int, number: int, changes: dict[str, Any]) -> Property:
    """The property with another label, other options, or otherwise required."""
    get(conn, project, number)
    if changes:
        conn.execute(update(table).where(table.c.id == number).values(changes))
    return get(conn, project, number)


def _going(conn: Connection, project: int) -> set[str]:
    """The deleted properties whose values are still being taken away."""
    running = select(bulk_acts.c.wanted).where(bulk_acts.c.project_id == project, bulk_acts.c.act == STRIP, bulk_acts.c.finished_at.is_(None))
    return {wanted["property"] for wanted in conn.scalars(running)}


def remove(conn: Connection, project: int, number: int) -> None:
    """Drop a definition; `strip` takes its values. Raises NotFound."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))


def strip(conn: Connection, numbers: Sequence[int], name: str, now: float) -> int:
    """Take a property's values from those of these contacts that have one; how many had."""
    found = list(conn.scalars(select(contacts.c.id).where(contacts.c.id.in_(numbers), value(conn, name).is_not(None)).order_by(contacts.c.id)))
    if found:
        less: Any = func.json_remove(contacts.c.properties, f'$."{name}"')
        if conn.dialect.name == "postgresql":
            less = cast(contacts.c.properties, JSONB).op("-")(name)
        conn.execute(update(contacts).where(contacts.c.id.in_(found)).values({contacts.c.properties: less, contacts.c.updated_at: now}))
        changes.note(conn, found)
        hearing.look_again(conn, found, now)
    return len(found)


def held(conn: Connection, project: int, name: str, most: int | None = None) -> int:
    """How many contacts have a value of a property, up to `most`; it may read all contacts."""
    some = select(contacts.c.id).where(contacts.c.project_id == project, value(conn, name).is_not(None)).limit(most)
    return conn.scalar(select(func.count()).select_from(some.subquery())) or 0


def usage(conn: Connection, project: int, name: str) -> dict[str, int]:
    """How many contacts have each value of a select."""
    each = value(conn, name).label("value")
    query = select(each, func.count()).where(contacts.c.project_id == project, each.is_not(None)).group_by(each).order_by(func.count().desc()).limit(1_000)
    return {str(row[0]): row[1] for row in conn.execute(query)}


def value(conn: Connection, name: str) -> Any:
    """The text of a property, NULL where there is none."""
    if conn.dialect.name == "postgresql":
        return contacts.c.properties[name].as_string()
    return func.json_extract(contacts.c.properties, f'$."{name}"')
