"""What exports read: the next rows of each list, a short read for each page, so that no export holds a snapshot open while a client is slow.

Rows are tuples whose first member is what the next page starts after. Those of contacts are as the driver gives them, a third of the work: JSON is text, and
truth may be a number.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, Text, cast, func, select, true

from relay.store import plans
from relay.store.audience import segments as lists
from relay.store.audience.contacts import Filter, where
from relay.store.audience.schema import (
    audience_members,
    audiences,
    contact_history,
    contact_properties,
    contacts,
    segment_members,
    segments,
    subscriptions,
    topics,
)
from relay.store.schema import Json, suppressions

PAGE = 1_000  # rows of one read
SAMPLE = 10_000  # newest contacts whose properties get a column of their own
NAMES = 400  # such columns

CONTACT = ("email", "first_name", "last_name", "unsubscribed", "tags", "created_at", "updated_at", "unsubscribed_at", "last_active_at", "properties")
_CONTACT = tuple(cast(column, Text) if column.type is Json else column for column in (contacts.c[name] for name in ("id", *CONTACT)))


def people(conn: Connection, project: int, after: int, audience: int | None) -> list[Any]:
    """Contacts by id: (id, *CONTACT), as the driver has them; with an audience, its members."""
    if audience is None:
        plans.in_order(conn)  # after an import there are no statistics yet, and each page would sort all that is left
        query = select(*_CONTACT).where(contacts.c.project_id == project, contacts.c.id > after)
    else:
        query = select(*_CONTACT).where(where(project, Filter(audience=audience)), contacts.c.id > after)
    return _plain(conn, query.order_by(contacts.c.id).limit(PAGE))


def members(conn: Connection, project: int, after: int, segment: int, now: float, read: Any) -> list[Any]:
    """Members of a segment by id, as `people`; raises NotFound."""
    rule = lists.condition(conn, lists.get(conn, project, segment), now, read)
    query = select(*_CONTACT).where(where(project, Filter(rule=rule)), contacts.c.id > after)
    return _plain(conn, query.order_by(contacts.c.id).limit(PAGE))


def _plain(conn: Connection, query: Select[Any]) -> list[Any]:
    with conn.execute(query) as found:
        return found.cursor.fetchall() if found.cursor is not None else []


def property_names(conn: Connection, project: int) -> list[str]:
    """Properties that get a column: those that are defined, then those of the newest contacts."""
    defined = list(conn.scalars(select(contact_properties.c.name).where(contact_properties.c.project_id == project).order_by(contact_properties.c.name)))
    newest = select(contacts.c.properties).where(contacts.c.project_id == project).order_by(contacts.c.id.desc()).limit(SAMPLE).subquery()
    if conn.dialect.name == "postgresql":
        query = select(func.jsonb_object_keys(newest.c.properties).label("key"))
    else:
        each = func.json_each(newest.c.properties).table_valued("key")
        query = select(each.c.key).select_from(newest).join(each, true())
    found = sorted(conn.scalars(query.distinct().limit(2 * NAMES)))
    return list(dict.fromkeys([*defined, *found]))[:NAMES]


def of_audiences(conn: Connection, project: int, after: int) -> list[Any]:
    """(id, name, description)."""
    query = select(audiences.c.id, audiences.c.name, audiences.c.description).where(audiences.c.project_id == project, audiences.c.id > after)
    return list(conn.execute(query.order_by(audiences.c.id).limit(PAGE)))


def in_audience(conn: Connection, audience: int, after: int) -> list[Any]:
    """(contact id, email)."""
    return _listed(conn, audience_members, audience_members.c.audience_id == audience, after)


def in_segment(conn: Connection, segment: int, after: int) -> list[Any]:
    """(contact id, email) of a static segment."""
    return _listed(conn, segment_members, segment_members.c.segment_id == segment, after)


def _listed(conn: Connection, table: Any, which: Any, after: int) -> list[Any]:
    query = select(table.c.contact_id, contacts.c.email).join(contacts, contacts.c.id == table.c.contact_id).where(which, table.c.contact_id > after)
    return list(conn.execute(query.order_by(table.c.contact_id).limit(PAGE)))


def of_segments(conn: Connection, project: int, after: int) -> list[Any]:
    """(id, name, description, name of the audience or None, tracked, rules or None)."""
    query = select(segments.c.id, segments.c.name, segments.c.description, audiences.c.name, segments.c.tracked, segments.c.rules).outerjoin(
        audiences, audiences.c.id == segments.c.audience_id).where(segments.c.project_id == project, segments.c.id > after)
    return list(conn.execute(query.order_by(segments.c.id).limit(PAGE)))


def of_topics(conn: Connection, project: int, after: int) -> list[Any]:
    """(id, name, description)."""
    query = select(topics.c.id, topics.c.name, topics.c.description).where(topics.c.project_id == project, topics.c.id > after)
    return list(conn.execute(query.order_by(topics.c.id).limit(PAGE)))


def of_topic(conn: Connection, topic: int, after: int) -> list[Any]:
    """What contacts said of a topic: (contact id, email, subscribed, updated_at)."""
    table = subscriptions
    query = select(table.c.contact_id, contacts.c.email, table.c.subscribed, table.c.updated_at).join(contacts, contacts.c.id == table.c.contact_id)
    return list(conn.execute(query.where(table.c.topic_id == topic, table.c.contact_id > after).order_by(table.c.contact_id).limit(PAGE)))


def of_history(conn: Connection, project: int, after: int) -> list[Any]:
    """What contacts agreed to and took back: (id, email, at, act, source, evidence)."""
    table = contact_history
    query = select(table.c.id, contacts.c.email, table.c.at, table.c.act, table.c.source, table.c.evidence).join(contacts, contacts.c.id == table.c.contact_id)
    return list(conn.execute(query.where(contacts.c.project_id == project, table.c.id > after).order_by(table.c.id).limit(PAGE)))


def of_suppressions(conn: Connection, project: int, after: int) -> list[Any]:
    """(id, address, reason, scope, evidence, created_at)."""
    table = suppressions
    query = select(table.c.id, table.c.address, table.c.reason, table.c.scope, table.c.evidence, table.c.created_at)
    return list(conn.execute(query.where(table.c.project_id == project, table.c.id > after).order_by(table.c.id).limit(PAGE)))


def of_properties(conn: Connection, project: int, after: int) -> list[Any]:
    """(id, name, label, type, options, required)."""
    table = contact_properties
    query = select(table.c.id, table.c.name, table.c.label, table.c.type, table.c.options, table.c.required)
    return list(conn.execute(query.where(table.c.project_id == project, table.c.id > after).order_by(table.c.id).limit(PAGE)))
