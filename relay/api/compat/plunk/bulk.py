"""/contacts/bulk-subscribe, bulk-unsubscribe and bulk-delete: an act on the contacts of a list of ids or of a search, done in the background."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import Field

from relay.api.contacts import by, number
from relay.api.core import Core, Input, Json, Owner, Relay, Shape, known, resource
from relay.audience import contacts as acts
from relay.audience.bulk import SUBSCRIBE
from relay.clock import iso
from relay.errors import Invalid
from relay.mail.message import Principal
from relay.store.audience import bulk_acts, contacts
from relay.store.audience.bulk_acts import BulkAct
from relay.store.audience.contacts import Filter

router = resource("Contacts")

IDS = 1_000  # contacts of one request
WITHOUT = 10_000  # that a search may leave out

STATES = {bulk_acts.RUNNING: "active", bulk_acts.COMPLETED: "completed", bulk_acts.FAILED: "failed"}


class FilterInput(Shape):
    search: str | None = Field(None, max_length=200)
    subscribed: bool | None = None


class BulkInput(Input):
    """`ids` with contactIds, or `query` with a filter and whom to leave out."""

    mode: Literal["ids", "query"]
    contact_ids: Annotated[list[str], Field(max_length=IDS)] = Field(default_factory=list)
    filter: FilterInput = Field(default_factory=FilterInput)
    exclude_ids: Annotated[list[str], Field(max_length=WITHOUT)] = Field(default_factory=list)


@router.post("/contacts/bulk-subscribe", status_code=202)
async def subscribe_many(here: Core, who: Owner, request: Request, given: BulkInput) -> Any:
    """Subscribe many contacts."""
    return await _begun(here, who, request, given, SUBSCRIBE)


@router.post("/contacts/bulk-unsubscribe", status_code=202)
async def unsubscribe_many(here: Core, who: Owner, request: Request, given: BulkInput) -> Any:
    """Unsubscribe many contacts from marketing mail."""
    return await _begun(here, who, request, given, acts.UNSUBSCRIBE)


@router.post("/contacts/bulk-delete", status_code=202)
async def delete_many(here: Core, who: Owner, request: Request, given: BulkInput) -> Any:
    """Delete many contacts for ever."""
    return await _begun(here, who, request, given, acts.DELETE)


@router.get("/contacts/bulk/{job_id}")
async def get_job(here: Core, who: Owner, job_id: str) -> Any:
    """How far an act is."""
    return _shown(await here.store.read(bulk_acts.get, who.project, known("job", job_id, "Job")))


async def _begun(here: Relay, who: Principal, request: Request, given: BulkInput, act: str) -> Json:
    one = by(here, who, request).act
    wanted: dict[str, Any] = {"evidence": {"source": one.source, "client": one.client, "agent": one.agent[:200], **one.more}}
    if given.mode == "ids":
        if not given.contact_ids:
            raise Invalid("contactIds", f"contactIds has 1 to {IDS} contacts")
        wanted["ids"] = sorted({number(each) for each in given.contact_ids})
        total = len(wanted["ids"])
    else:
        unsubscribed = None if given.filter.subscribed is None else not given.filter.subscribed
        wanted |= {"search": given.filter.search, "unsubscribed": unsubscribed, "without": [number(each) for each in given.exclude_ids]}
        total = await here.store.read(contacts.count, who.project, Filter(given.filter.search, unsubscribed))
    job = await here.control.bulk.begin(who.project, act, wanted, total)
    return Json({"jobId": job.public_id, "message": f"{total} contacts are being worked on"}, 202)


def _shown(act: BulkAct) -> dict[str, Any]:
    ended = act.state != bulk_acts.RUNNING
    progress = 100 if ended else min(99, 100 * act.done // max(1, act.total))
    return {"id": act.public_id, "jobId": act.public_id, "status": STATES[act.state], "progress": progress,
            "result": {"total": act.total, "successCount": act.done} if ended else None, "createdAt": iso(act.created_at), "finishedAt": iso(act.finished_at)}
