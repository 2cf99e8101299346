"""Contact properties with a type: a project's own schema for the properties of its contacts. A name without a definition takes any value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import JSONB

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store.audience import changes
from relay.store.audience.schema import contact_properties as table
from relay.store.audience.schema import contacts
from relay.store.upsert import insert
from relay.store.workflows import hearing

TYPES = ("text", "number", "boolean", "date", "select")
MOST = 200  # definitions of a project
SLICE = 1_000  # contacts of one transaction that takes a property's values away


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
    """Raises Conflict when the name is defined already, or the project has MOST."""
    if len(of(conn, made.project_id)) >= MOST:
        raise Conflict(f"a project has at most {MOST} properties")
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


def remove(conn: Connection, project: int, number: int) -> str:
    """The name whose definition is gone; `strip` takes its values."""
    name = get(conn, project, number).name
    conn.execute(delete(table).where(table.c.id == number))
    return name


def strip(conn: Connection, project: int, name: str, after: int, now: float) -> int | None:
    """Take a property's values from the next SLICE contacts that have one; the id to go on after, None at the end."""
    held = _value(conn, name).is_not(None)
    found = list(conn.scalars(select(contacts.c.id).where(contacts.c.project_id == project, contacts.c.id > after, held).order_by(contacts.c.id).limit(SLICE)))
    if not found:
        return None
    less: Any = contacts.c.properties.op("-")(name) if conn.dialect.name == "postgresql" else func.json_remove(contacts.c.properties, f'$."{name}"')
    if conn.dialect.name == "postgresql":
        less = cast(contacts.c.properties, JSONB).op("-")(name)
    conn.execute(update(contacts).where(contacts.c.id.in_(found)).values({contacts.c.properties: less, contacts.c.updated_at: now}))
    changes.note(conn, found)
    hearing.look_again(conn, found, now)
    return found[-1]


def held(conn: Connection, project: int, name: str) -> int:
    """How many contacts have a value of a property; it reads all contacts."""
    return conn.scalar(select(func.count()).where(contacts.c.project_id == project, _value(conn, name).is_not(None))) or 0


def usage(conn: Connection, project: int, name: str) -> dict[str, int]:
    """How many contacts have each value of a select."""
    value = _value(conn, name).label("value")
    query = select(value, func.count()).where(contacts.c.project_id == project, value.is_not(None)).group_by(value).order_by(func.count().desc()).limit(1_000)
    return {str(row[0]): row[1] for row in conn.execute(query)}


def _value(conn: Connection, name: str) -> Any:
    """The text of a property, NULL where there is none."""
    if conn.dialect.name == "postgresql":
        return contacts.c.properties[name].as_string()
    return func.json_extract(contacts.c.properties, f'$."{name}"')
