"""GET /events: what happened in the project, newest first, or from a moment on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from relay import events
from relay.api.core import Core, Owner, Paging, known, listed, resource
from relay.api.emails import _when
from relay.store import events as stored

router = resource("Events")


@router.get("/events")
async def list_events(
    here: Core, who: Owner, page: Paging,
    type: Annotated[str | None, Query(description="`email.delivered`, or several with commas between", max_length=1_000)] = None,
    email_id: Annotated[str | None, Query(description="Only of this email, `em_...`")] = None,
    contact_id: Annotated[str | None, Query(description="Only of this contact, `ct_...`")] = None,
    since: Annotated[str | None, Query(description="Not before this date or time (ISO 8601)")] = None,
) -> Any:
    """List events, newest first."""
    types = tuple(part.strip() for part in type.split(",") if part.strip()) if type else ()
    email = None if email_id is None else known("em", email_id, "Email")
    contact = None if contact_id is None else known(contact_id.partition("_")[0] if contact_id.startswith(("ct_", "con_")) else "ct", contact_id, "Contact")
    found = await here.store.read(stored.paged, who.project, page, types, email, contact, _when("since", since))
    return listed("events", found, page, events.body)
