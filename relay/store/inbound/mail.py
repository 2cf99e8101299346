"""Mail that people wrote to a domain of a project: kept once, listed, read, and dropped when its time is over.

A message to addresses of two projects is two messages, each with its own project's recipients. One that comes a second time, because its sender did not hear
our 250 (RFC 1047), is known by its digest and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, select

from relay.errors import NotFound
from relay.mail import ids
from relay.store import bodies, bulk, events, pages
from relay.store.domains import Domain
from relay.store.events import Event
from relay.store.inbound.schema import inbound as table
from relay.store.pages import Found, Page
from relay.store.schema import domains, messages, recipients
from relay.store.upsert import insert as upsert

REFERENCES = 20  # Message-IDs of a thread that are looked for among ours


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message to a domain; `answers` the id of the message of ours that it answers. Times in UTC seconds, `size` in octets."""

    id: int
    project_id: int
    domain_id: int
    domain: str
    digest: str
    client: str
    sender: str
    recipients: list[str]
    from_address: str
    from_name: str
    to_addresses: list[str]
    cc_addresses: list[str]
    subject: str
    message_id: str
    in_reply_to: str
    answers: int | None
    mailbox_hash: str
    size: int
    spam_score: float | None
    spam_verdict: str
    authentication: dict[str, Any]
    attachments: list[dict[str, Any]]
    created_at: float
    references: Sequence[str] = field(default=(), compare=False)

    @property
    def public_id(self) -> str:
        return ids.public("in", self.id)


_NAMES = tuple(name for name in Inbound.__slots__ if name != "references")
_COLUMNS = tuple(table.c[name] for name in _NAMES)
_TEXTS = {name: table.c[name].type.length or 2_000 for name in ("client", "sender", "from_address", "from_name", "subject", "message_id", "in_reply_to",
                                                               "mailbox_hash")}

_JSON = ("recipients", "to_addresses", "cc_addresses", "authentication", "attachments")


def serving(conn: Connection, name: str, proven: bool = True) -> Domain | None:
    """The domain of this name that takes mail here; None where no project has switched it on, or several have and none has proven it.

    proven  only a domain that its project has verified
    """
    rows = conn.execute(select(domains.c.id, domains.c.project_id, domains.c.status, domains.c.settings, domains.c.verified_at, domains.c.created_at).where(
        domains.c.name == name)).all()
    found = [row for row in rows if row.settings.get("inbound_enabled")]
    sure = [row for row in found if row.verified_at is not None]
    chosen = sure or ([] if proven else found)
    if len(chosen) != 1:
        return None
    row = chosen[0]
    return Domain(row.id, row.project_id, name, row.status, {}, row.settings, row.created_at, row.verified_at)


def add(conn: Connection, mail: Inbound, octets: bytes, told: dict[str, Any]) -> Inbound | None:
    """The message, stored with its event; None when it is known already.

    told  what the event says beside what every event about such mail does
    """
    answered = _answered(conn, mail)
    mail = replace(mail, answers=answered[0] if answered else None)
    values = {name: getattr(mail, name) for name in _NAMES} | {name: bulk.clean(getattr(mail, name), length) for name, length in _TEXTS.items()}
    values |= {name: bulk.plain(getattr(mail, name)) for name in _JSON}
    if conn.execute(upsert(conn, table).values(values).on_conflict_do_nothing(index_elements=["domain_id", "digest"])).rowcount == 0:
        return None
    bodies.put(conn, mail.id, octets, mail.created_at)
    number, person = answered or (None, None)
    events.append(conn, [Event(mail.project_id, "email.inbound", mail.created_at, number, person, data={"inbound_id": mail.public_id, **told})])
    return mail


def _answered(conn: Connection, mail: Inbound) -> tuple[int, int | None] | None:
    """The message of the same project that this one answers, nearest first, and which of its recipients wrote."""
    wanted = list(dict.fromkeys(each for each in (mail.in_reply_to, *reversed(mail.references)) if each))[:REFERENCES]
    if not wanted:
        return None
    rows = conn.execute(select(messages.c.id, messages.c.message_id).where(
        messages.c.message_id.in_(wanted), messages.c.project_id == mail.project_id).order_by(messages.c.id.desc()).limit(100)).all()
    if not rows:
        return None
    number = min(rows, key=lambda row: wanted.index(row.message_id)).id
    person = conn.scalar(select(recipients.c.id).where(recipients.c.message_id == number, recipients.c.address == mail.from_address).limit(1))
    return number, person


def get(conn: Connection, project: int, number: int) -> Inbound:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.id == number, table.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound("Inbound email not found")
    return Inbound(*row)


def octets(conn: Connection, project: int, number: int) -> bytes:
    """The message as it came, with our trace on top; raises NotFound."""
    get(conn, project, number)
    return bodies.get(conn, number)


def paged(conn: Connection, project: int, which: Page, domain: str | None = None) -> Found:
    """A page of a project's messages, newest first; of one domain where it is named."""
    wanted = select(*_COLUMNS).where(table.c.project_id == project)
    if domain:
        wanted = wanted.where(table.c.domain == domain)
    found = pages.take(conn, wanted, table.c.id, which)
    return Found([Inbound(*row) for row in found.rows], found.total, found.last)


def remove(conn: Connection, project: int, number: int) -> None:
    """Gone, with its octets; raises NotFound."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))
    bodies.drop(conn, [number])


def prune(conn: Connection, before: int, limit: int) -> int:
    """Drop at most `limit` messages with ids below `before`, with their octets; how many."""
    old = conn.scalars(select(table.c.id).where(table.c.id < before).order_by(table.c.id).limit(limit)).all()
    bulk.delete(conn, table, "id", old)
    bodies.drop(conn, old)
    return len(old)
