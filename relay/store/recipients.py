"""Recipients of the ledger, one by one: whom a token in a link or a return path names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from relay.errors import NotFound
from relay.store.schema import events, messages, recipients


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


def counted(conn: Connection, addressee: Addressee, types: Sequence[str], limit: int) -> int:
    """How many events of these types the recipient has, up to `limit`."""
    found = select(events.c.id).where(
        events.c.message_id == addressee.message_id, events.c.recipient_id == addressee.id, events.c.type.in_(types)).limit(limit)
    return conn.scalar(select(func.count()).select_from(found.subquery())) or 0
