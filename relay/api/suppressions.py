"""/suppressions: addresses that get no mail, and why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from relay.api.core import Core, Input, Owner, Paging, listed, resource
from relay.clock import iso
from relay.control import suppress
from relay.errors import Invalid, NotFound
from relay.mail import address, ids
from relay.store import suppressions
from relay.store.suppressions import SEVERITY, Suppression, said

router = resource("Suppressions")


class SuppressionInput(Input):
    """An address that shall get no more mail; `scope` may narrow it to marketing or to a topic."""

    email: str = Field(max_length=320)
    reason: str = "manual"
    scope: str = "all"
    note: str = Field("", max_length=500)


@router.get("/suppressions")
async def list_suppressions(
    here: Core, who: Owner, page: Paging,
    reason: Annotated[str | None, Query(description=f"One of {', '.join(SEVERITY)}")] = None,
    email: Annotated[str | None, Query(description="An address, in any spelling")] = None,
) -> Any:
    """List suppressed addresses, newest first."""
    if reason is not None and reason not in SEVERITY:
        raise Invalid("reason", f"reason is one of {', '.join(SEVERITY)}")
    key = _key(email) if email else None
    found = await here.store.read(suppressions.paged, who.project, page, reason, key)
    return listed("suppressions", found, page, shown)


@router.post("/suppressions", status_code=201)
async def add_suppression(here: Core, who: Owner, given: SuppressionInput) -> Any:
    """Suppress an address: every queued copy that has not passed DATA stops, too."""
    _key(given.email)
    entry = await here.act(who, suppress.add, given.email, reason=given.reason, scope=given.scope, note=given.note)
    found = await here.store.read(suppressions.of, who.project, address.key(given.email))
    return shown(next(each for each in found if each.scope == entry["scope"]))


@router.get("/suppressions/{email}")
async def get_suppression(here: Core, who: Owner, email: str) -> Any:
    """Whether and why an address is suppressed."""
    found = await here.store.read(suppressions.of, who.project, _key(email))
    if not found:
        raise NotFound("Suppression not found")
    return shown(found[0])


@router.delete("/suppressions/{email}")
async def remove_suppression(here: Core, who: Owner, email: str) -> Any:
    """Lift every suppression of an address; sending resumes."""
    _key(email)
    await here.act(who, suppress.remove, email)
    return {"deleted": True}


def _key(email: str) -> str:
    try:
        return address.key(email)
    except Invalid as error:
        raise Invalid("email", error.text) from None


def shown(entry: Suppression) -> dict[str, Any]:
    return {"id": ids.public("sup", entry.id), "email": entry.address, "reason": entry.reason, "scope": entry.scope, "evidence": said(entry.evidence),
            "created_at": iso(entry.created_at), "expires_at": iso(entry.expires_at)}


