"""Events as the outside sees them: one body for webhooks and for GET /events, and which names there are.

    {"id": "evt_...", "type": "email.delivered", "timestamp": "2026-03-23T10:00:02.000Z", "data": {"email_id": "em_...", "to": "user@example.com", ...}}
"""

from __future__ import annotations

import re
from typing import Any

from relay.clock import iso
from relay.errors import Invalid
from relay.mail import ids
from relay.store.events import Event

NAMES = (
    *(f"email.{name}" for name in ("queued", "scheduled", "sent", "delivered", "deferred", "bounced", "soft_bounced", "failed", "opened", "clicked",
                                   "complained", "unsubscribed", "suppressed", "cancelled", "inbound")),
    *(f"contact.{name}" for name in ("created", "updated", "deleted", "subscribed", "unsubscribed", "bounced")),
    "domain.verified", "domain.failed", "import.completed", "broadcast.started", "broadcast.completed",
)
ALL = "*"
LONGEST = 64  # characters of a name
_SYSTEM = re.compile(r"email\..*|contact\.(subscribed|unsubscribed)|segment\..*\.(entry|exit)|(subscribe|unsubscribe)", re.IGNORECASE)


def body(event: Event) -> dict[str, Any]:
    data = dict(event.data)
    if event.message_id is not None:
        data = {"email_id": ids.public("em", event.message_id), **data}
    if event.contact_id is not None:
        data = {"contact_id": ids.public("ct", event.contact_id), **data}
    return {"id": event.public_id, "type": event.type, "timestamp": iso(event.at), "data": data}


def reserved(name: str) -> bool:
    """Whether an event's name is the system's own: nobody else writes such an event."""
    return name in NAMES or _SYSTEM.fullmatch(name) is not None


def own(name: str) -> str:
    """The name, if a project may write an event of it; raises Invalid."""
    if not 0 < len(name) <= LONGEST or not name.isprintable() or not set('"\\').isdisjoint(name):
        raise Invalid("event", f"event is a name of 1 to {LONGEST} characters without quotation marks, backslashes and control characters")
    return name


def checked(names: list[str]) -> list[str]:
    """The names an endpoint wants; `*` is all of them, `email.*` all of a noun, and names of the caller's own are taken as they are. Raises Invalid."""
    if not names:
        raise Invalid("events", "events names at least one event, or *")
    for name in names:
        if not name or len(name) > LONGEST or any(c.isspace() for c in name):
            raise Invalid("events", f"{name[:80]!r} is not an event's name")
        noun = name.partition(".")[0]
        if name not in NAMES and noun in ("email", "domain", "import", "broadcast") and not name.endswith(".*"):
            raise Invalid("events", f"there is no event {name}; there are {', '.join(known for known in NAMES if known.startswith(noun))}")
    return list(dict.fromkeys(names))


def wanted(names: list[str], kind: str) -> bool:
    """Whether an endpoint that asked for these names wants an event of this type."""
    return any(name in (ALL, kind) or (name.endswith(".*") and kind.startswith(name[:-1])) for name in names)
