"""Topics, and who wants their mail. A topic is opt-out: a contact without a row in `subscriptions` is subscribed.

What keeps mail of a topic from an address is the suppression entry `topic:<id>`, which relay.consent writes together with the row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, not_, or_, select, tuple_, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import pages
from relay.store.audience import changes
from relay.store.audience.contacts import COLUMNS, Contact, made
from relay.store.audience.schema import contacts, subscriptions
from relay.store.audience.schema import topics as table
from relay.store.pages import Found, Page
from relay.store.schema import suppressions
from relay.store.upsert import insert

MOST = 500  # topics of a project


@dataclass(frozen=True, slots=True)
class Topic:
    id: int
    project_id: int
    name: str
    description: str
    created_at: float

    @property
    def public_id(self) -> str:
        return public(self.id)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a contact said of a topic; `updated_at` None when it never said anything and therefore is subscribed."""

    topic: Topic
    contact_id: int
    subscribed: bool
    updated_at: float | None


_COLUMNS = tuple(table.c[name] for name in Topic.__slots__)


def public(number: int) -> str:
    return ids.public("top", number)


def scope(number: int) -> str:
    """The scope of a suppression entry for this topic."""
    return f"topic:{public(number)}"


def scoped(wide: str) -> int | None:
    """The topic that a scope is about; None for a scope that is wider, 0 for a name that is no topic's id."""
    return (ids.internal(wide[6:], "top") or 0) if wide.startswith("topic:") else None


def add(conn: Connection, topic: Topic) -> Topic:
    """Raises Conflict when the name is taken."""
    if (conn.scalar(select(func.count()).where(table.c.project_id == topic.project_id)) or 0) >= MOST:
        raise Conflict(f"a project has at most {MOST} topics")
    row = insert(conn, table).values({name: getattr(topic, name) for name in Topic.__slots__})
    if conn.execute(row.on_conflict_do_nothing(index_elements=["project_id", "name"])).rowcount == 0:
        raise Conflict(f"the topic {topic.name} exists already")
    return topic


def get(conn: Connection, project: int, number: int) -> Topic:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Topic not found")
    return Topic(*row)


def every(conn: Connection, project: int) -> list[Topic]:
    """The project's topics by name, MOST at most."""
    return [Topic(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project).order_by(table.c.name, table.c.id).limit(MOST))]


def paged(conn: Connection, project: int, which: Page) -> Found:
    found = pages.take(conn, select(*_COLUMNS).where(table.c.project_id == project), table.c.id, which)
    return Found([Topic(*row) for row in found.rows], found.total, found.last)


def change(conn: Connection, project: int, number: int, changes: dict[str, Any]) -> Topic:
    """The topic with another name or description; raises Conflict when the name is another topic's."""
    get(conn, project, number)
    taken = select(table.c.id).where(table.c.project_id == project, table.c.name == changes.get("name"), table.c.id != number)
    if conn.execute(taken).first() is not None:
        raise Conflict(f"the topic {changes['name']} exists already")
    if changes:
        conn.execute(update(table).where(table.c.id == number).values(changes))
    return get(conn, project, number)


def remove(conn: Connection, project: int, number: int) -> None:
    """Delete the topic and what contacts said of it; its opt-outs stay among the suppressions, since mail of it may still wait."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))


def set_state(conn: Connection, contact: Contact, number: int, subscribed: bool, at: float) -> bool:
    """Whether this is news of the contact; False too for a topic that is none of the project's."""
    if conn.execute(select(table.c.id).where(table.c.id == number, table.c.project_id == contact.project_id)).first() is None:
        return False
    row = insert(conn, subscriptions).values(topic_id=number, contact_id=contact.id, subscribed=subscribed, updated_at=at)
    differs = subscriptions.c.subscribed != subscribed
    done = row.on_conflict_do_update(index_elements=["topic_id", "contact_id"], where=differs, set_={"subscribed": subscribed, "updated_at": at})
    if not conn.execute(done.returning(subscriptions.c.topic_id)).all():
        return False
    changes.note(conn, [contact.id])
    return True


def of_contact(conn: Connection, contact: Contact) -> list[Subscription]:
    """Every topic of the project, and whether the contact gets its mail."""
    query = select(*_COLUMNS, subscriptions.c.subscribed, subscriptions.c.updated_at).select_from(
        table.outerjoin(subscriptions, and_(subscriptions.c.topic_id == table.c.id, subscriptions.c.contact_id == contact.id))
    ).where(table.c.project_id == contact.project_id).order_by(table.c.id)
    return [Subscription(Topic(*row[:5]), contact.id, row[5] is not False and row[5] != 0, row[6]) for row in conn.execute(query)]


def said(conn: Connection, project: int, after: tuple[int, int], limit: int) -> list[Any]:
    """What contacts said of topics, after a topic and a contact: (topic, contact, email, name, subscribed, updated_at)."""
    given = subscriptions
    query = select(given.c.topic_id, given.c.contact_id, contacts.c.email, table.c.name, given.c.subscribed, given.c.updated_at).select_from(
        given.join(table, table.c.id == given.c.topic_id).join(contacts, contacts.c.id == given.c.contact_id)).where(
        table.c.project_id == project, tuple_(given.c.topic_id, given.c.contact_id) > tuple_(*after))
    return [tuple(row) for row in conn.execute(query.order_by(given.c.topic_id, given.c.contact_id).limit(limit))]


def subscribers(conn: Connection, topic: Topic, which: Page, subscribed: bool = True) -> Found:
    """A page of the contacts that get the topic's mail, or of those that opted out, newest first."""
    out = exists().where(subscriptions.c.topic_id == topic.id, subscriptions.c.contact_id == contacts.c.id, subscriptions.c.subscribed.is_(False))
    wanted = and_(not_(out), contacts.c.unsubscribed.is_(False), not_(_stopped())) if subscribed else out
    every = contacts.c.project_id == topic.project_id
    rare = conn.info["samples"].large(conn, select(contacts.c.id).where(every), ("contacts", topic.project_id))
    found = pages.take(conn, select(*COLUMNS).where(every, wanted), contacts.c.id, which, name=("topic", topic.id, subscribed), rare=rare)
    return Found([made(row) for row in found.rows], found.total, found.last)


def counts(conn: Connection, topic: Topic) -> tuple[int, int]:
    """How many contacts get the topic's mail, and how many opted out of it."""
    said = select(func.count()).where(subscriptions.c.topic_id == topic.id, subscriptions.c.subscribed.is_(False))
    gone = exists().where(subscriptions.c.topic_id == topic.id, subscriptions.c.contact_id == contacts.c.id, subscriptions.c.subscribed.is_(False))
    able = select(func.count()).select_from(contacts).where(contacts.c.project_id == topic.project_id, contacts.c.unsubscribed.is_(False), not_(gone),
                                                            not_(_stopped()))
    return conn.scalar(able) or 0, conn.scalar(said) or 0


def _stopped() -> Any:
    """Whether the contact's address is suppressed for everything."""
    return exists().where(suppressions.c.project_id == contacts.c.project_id, suppressions.c.key == contacts.c.key,
                          or_(suppressions.c.scope == "all", suppressions.c.scope == "marketing"))
