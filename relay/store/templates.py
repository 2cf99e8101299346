"""Templates of a project and their versions.

The row has the texts as they are edited. Publishing copies them to `template_versions` and lets sends use that version; editing goes on beside it until the
next publication, which gets the next number. What was sent does not depend on either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from relay.errors import NotFound, Refuse
from relay.mail import ids
from relay.mail.message import TRANSACTIONAL
from relay.mail.mime import Texts
from relay.mail.reply import Reply
from relay.store import pages
from relay.store.pages import Found, Page
from relay.store.schema import template_versions as versions
from relay.store.schema import templates as table

KEPT = 100  # versions of a template


@dataclass(frozen=True, slots=True)
class Template:
    """`version` of the texts here, `published` the one that is sent with, or None; times in UTC seconds.

    sender    the From field of mail that names none, `Name <a@b>` or ""
    stream    what mail by this template is, where the sender does not say: "transactional" | "marketing"
    """

    id: int
    project_id: int
    name: str
    subject: str
    html: str | None
    text: str | None
    version: int
    published: int | None
    published_at: float | None
    created_at: float
    updated_at: float
    description: str = ""
    sender: str = ""
    reply_to: str = ""
    stream: str = TRANSACTIONAL

    @property
    def public_id(self) -> str:
        return ids.public("tpl", self.id)

    @property
    def texts(self) -> Texts:
        return Texts(self.subject, self.html, self.text)


_COLUMNS = tuple(table.c[name] for name in Template.__slots__)


def add(conn: Connection, template: Template) -> Template:
    conn.execute(insert(table), {name: getattr(template, name) for name in Template.__slots__})
    return template


def get(conn: Connection, project: int, number: int) -> Template:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.id == number, table.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound("Template not found")
    return Template(*row)


def page(conn: Connection, project: int, which: Page, search: str = "", published: bool | None = None, stream: str = "", ascending: bool = False) -> Found:
    """Newest first, or oldest; `search` is part of the name or subject."""
    query = select(*_COLUMNS).where(table.c.project_id == project)
    if stream:
        query = query.where(table.c.stream == stream)
    if search:
        query = query.where(or_(table.c.name.icontains(search, autoescape=True), table.c.subject.icontains(search, autoescape=True)))
    if published is not None:
        query = query.where(table.c.published.is_not(None) if published else table.c.published.is_(None))
    found = pages.take(conn, query, table.c.id, which, not ascending)
    return Found([Template(*row) for row in found.rows], found.total, found.last)


def change(conn: Connection, project: int, number: int, values: dict[str, Any], now: float) -> Template:
    """The template with these columns changed. One that is published goes on being sent as it was, and these texts are the next version."""
    template = get(conn, project, number)
    texts = any(name in values and values[name] != getattr(template, name) for name in ("subject", "html", "text"))
    version = template.version + 1 if texts and template.published == template.version else template.version
    conn.execute(update(table).where(table.c.id == number).values(**values, version=version, updated_at=now))
    return get(conn, project, number)


def publish(conn: Connection, project: int, number: int, now: float) -> Template:
    """The template whose present texts are sent from now on."""
    template = get(conn, project, number)
    if template.published != template.version:
        conn.execute(delete(versions).where(versions.c.template_id == number, versions.c.version == template.version))
        conn.execute(insert(versions), {"template_id": number, "version": template.version, "subject": template.subject, "html": template.html,
                                        "text": template.text, "created_at": now})
        conn.execute(delete(versions).where(versions.c.template_id == number, versions.c.version <= template.version - KEPT))
        conn.execute(update(table).where(table.c.id == number).values(published=template.version, published_at=now))
    return get(conn, project, number)


def unpublish(conn: Connection, project: int, number: int) -> Template:
    """The template, a draft again; its versions stay."""
    template = get(conn, project, number)
    # The next publication must not overwrite a version that was sent.
    version = template.version + 1 if template.published == template.version else template.version
    conn.execute(update(table).where(table.c.id == number).values(published=None, published_at=None, version=version))
    return get(conn, project, number)


def published(conn: Connection, project: int, number: int) -> Texts:
    """The texts that sends use; raises NotFound, or Refuse for a draft."""
    template = get(conn, project, number)
    if template.published is None:
        raise Refuse(Reply(550, "5.6.0", "Template not published"), "template_not_published")
    return version(conn, template, template.published)


def sent(conn: Connection, project: int, number: int) -> Template:
    """The template with the texts that sends use; otherwise as `published`."""
    template, texts = get(conn, project, number), published(conn, project, number)
    return replace(template, subject=texts.subject, html=texts.html, text=texts.text)


def version(conn: Connection, template: Template, number: int) -> Texts:
    """Raises NotFound for a version that there never was or that is no longer kept."""
    known = 0 < number <= template.version  # a larger number is more than a column takes
    row = conn.execute(select(versions).where(versions.c.template_id == template.id, versions.c.version == number)).one_or_none() if known else None
    if row is None:
        raise NotFound("Template version not found")
    return Texts(row.subject, row.html, row.text)


def history(conn: Connection, project: int, number: int) -> list[Any]:
    """The published versions, newest first."""
    get(conn, project, number)
    return list(conn.execute(select(versions).where(versions.c.template_id == number).order_by(versions.c.version.desc())))


def remove(conn: Connection, project: int, number: int) -> None:
    """Gone, with its versions; sent mail stays as it is. Raises NotFound."""
    get(conn, project, number)
    conn.execute(delete(versions).where(versions.c.template_id == number))
    conn.execute(delete(table).where(table.c.id == number))
