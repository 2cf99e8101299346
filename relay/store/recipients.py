"""Recipients of the ledger, one by one: whom a token in a link or a return path names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from relay.errors import NotFound
from relay.mail.reply import Reply
from relay.store.schema import attempts, events, messages, recipients

ENDS = 500  # ends of one address that are looked at, newest first


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient, and what of its message decides about consent: `wishes` as the ledger has them."""

    id: int
    message_id: int
    project_id: int
    address: str
    key: str
    topic: str
    stream: str
    wishes: dict[str, Any]
    test: bool


def get(conn: Connection, number: int) -> Addressee:
    """Raises NotFound when there is none, or retention has taken it."""
    row = conn.execute(
        select(recipients.c.id, recipients.c.message_id, recipients.c.project_id, recipients.c.address, recipients.c.key, messages.c.topic, messages.c.stream,
               messages.c.wishes, messages.c.origin)
        .join(messages, messages.c.id == recipients.c.message_id).where(recipients.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("this link is not one of ours")
    return Addressee(*row[:8], test=row.origin.get("mode") == "test")


def author(conn: Connection, addressee: Addressee) -> str:
    """The From field of the message to them; raises NotFound."""
    found = conn.scalar(select(messages.c.header_from).where(messages.c.id == addressee.message_id))
    if not found:
        raise NotFound("the message is gone")
    return found


@dataclass(frozen=True, slots=True)
class Bounced:
    """A recipient that bounced: `reply` the words that ended it, who said them in which phase, and whether they can only have meant this one (`alone`)."""

    id: int
    address: str
    key: str
    at: float
    reply: Reply
    mx: str
    phase: str
    alone: bool


def bounced(conn: Connection, project: int, after: int, since: float, limit: int) -> list[Bounced]:
    """A project's recipients that bounced since then, UTC seconds, in the order of their ids, after this one."""
    columns = (recipients.c.id, recipients.c.message_id, recipients.c.address, recipients.c.key, recipients.c.ended_at, recipients.c.code,
               recipients.c.enhanced, recipients.c.text)
    whose = select(*columns).where(recipients.c.project_id == project, recipients.c.id > after, text("recipients.state = 'bounced'"))
    rows = conn.execute(whose.where(recipients.c.ended_at >= since).order_by(recipients.c.id).limit(limit)).all()
    ids = [row.message_id for row in rows]
    last = {tried.recipient_id: tried for tried in conn.execute(
        select(attempts.c.recipient_id, attempts.c.mx, attempts.c.phase).where(attempts.c.message_id.in_(ids)).order_by(attempts.c.at, attempts.c.id))}
    several = set(conn.scalars(select(recipients.c.message_id).where(recipients.c.message_id.in_(ids)).group_by(recipients.c.message_id)
                               .having(func.count() > 1)))
    found = []
    for row in rows:
        tried = last.get(row.id)
        mx, phase = (tried.mx, tried.phase) if tried else ("", "")
        alone = phase not in ("data", "dot") or row.message_id not in several
        found.append(Bounced(row.id, row.address, row.key, row.ended_at, Reply(row.code or 550, row.enhanced or "", row.text or ""), mx, phase, alone))
    return found


def of_message(conn: Connection, message: int, keys: Sequence[str]) -> list[int]:
    """Ids of the recipients of a message whose addresses have these normal forms; without any, of its only recipient."""
    statement = select(recipients.c.id).where(recipients.c.message_id == message).order_by(recipients.c.id)
    found = list(conn.scalars(statement.where(recipients.c.key.in_(list(keys))) if keys else statement.limit(2)))
    return found if keys or len(found) == 1 else []


def by_message_id(conn: Connection, field: str, keys: Sequence[str], project: int | None) -> list[int]:
    """Ids of the recipients with these normal forms of the message with this Message-ID field, of one project if named; none where several messages have it."""
    wanted = [messages.c.message_id == field, *([messages.c.project_id == project] if project is not None else [])]
    found = conn.scalars(select(messages.c.id).where(*wanted).limit(2)).all()
    return of_message(conn, found[0], keys) if len(found) == 1 and keys else []


def delivered_by(conn: Connection, number: int) -> str:
    """The host that took the message of this recipient, "" when that is no longer known."""
    taken = select(attempts.c.mx).join(recipients, recipients.c.message_id == attempts.c.message_id)
    return conn.scalar(taken.where(recipients.c.id == number, attempts.c.recipient_id == number, attempts.c.result == "delivered").limit(1)) or ""


def counted(conn: Connection, addressee: Addressee, types: Sequence[str], limit: int) -> int:
    """How many events of these types the recipient has, up to `limit`."""
    found = select(events.c.id).where(
        events.c.message_id == addressee.message_id, events.c.recipient_id == addressee.id, events.c.type.in_(types)).limit(limit)
    return conn.scalar(select(func.count()).select_from(found.subquery())) or 0


def ends(conn: Connection, project: int, key: str, since: float) -> list[tuple[float, str, Reply, str, str]]:
    """(UTC seconds, state, the last reply, who said it, in which phase) of the mail to an address that ended since then, newest first, at most ENDS."""
    columns = (recipients.c.id, recipients.c.message_id, recipients.c.state, recipients.c.ended_at, recipients.c.code, recipients.c.enhanced, recipients.c.text)
    whose = select(*columns).where(recipients.c.project_id == project, recipients.c.key == key, recipients.c.ended_at >= since)
    rows = conn.execute(whose.order_by(recipients.c.id.desc()).limit(ENDS)).all()
    last = {row.recipient_id: row for row in conn.execute(
        select(attempts.c.recipient_id, attempts.c.mx, attempts.c.phase).where(attempts.c.message_id.in_([row.message_id for row in rows]))
        .order_by(attempts.c.at, attempts.c.id))}
    found = [(row, last.get(row.id)) for row in sorted(rows, key=lambda row: row.ended_at, reverse=True)]
    return [(row.ended_at, row.state, Reply(row.code or 250, row.enhanced or "", row.text or ""), tried.mx if tried else "", tried.phase if tried else "")
            for row, tried in found]
