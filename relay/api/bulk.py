"""/contacts/bulk: an act on many contacts, those that are named or all of a segment.

Those named are few, and done when the answer comes. A segment may be of any size: what is done to it goes on behind the mail (relay.audience.bulk), also
over a restart, and a request that has waited `[http] patience` seconds for it is answered with how far it is.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from pydantic import Field

from relay.api.contacts import by, done, internal
from relay.api.core import Core, Input, Json, Owner, Relay, known, resource
from relay.audience import contacts as acts
from relay.audience import values
from relay.audience.bulk import SLICE
from relay.audience.contacts import By
from relay.clock import iso
from relay.errors import Invalid
from relay.store.audience import bulk_acts, segments
from relay.store.audience.bulk_acts import COMPLETED, RUNNING, BulkAct
from relay.store.engine import JOBS

router = resource("Contacts")

NAMED = 10_000  # contacts that one request may name

LATER = {"description": "It takes longer than a request may: how far it is, as GET /contacts/bulk/{id} goes on to tell"}


class BulkInput(Input):
    """An action on many contacts: those of `contact_ids`, or all of a segment."""

    action: Literal["tag", "untag", "unsubscribe", "delete"]
    contact_ids: list[str] | None = Field(None, max_length=NAMED)
    segment_id: str | None = None
    tags: list[str] = Field(default_factory=list)


@router.post("/contacts/bulk", responses={202: LATER})
async def change_many(here: Core, who: Owner, request: Request, given: BulkInput) -> Any:
    """Tag, untag, unsubscribe or delete many contacts. 202 when those of a segment take longer than a request may."""
    if (given.contact_ids is None) == (given.segment_id is None):
        raise Invalid("contact_ids", "name either contact_ids or segment_id")
    one = by(here, who, request)
    if given.contact_ids is not None:
        return {"action": given.action, "changed": await change_named(here, one, given.action, given.contact_ids, given.tags)}
    act = await begun(here, one, given.action, given.segment_id or "", given.tags)
    ended = await here.control.bulk.rest(act, here.settings.http.patience)
    now: BulkAct = await here.store.read(bulk_acts.get, who.project, act.id)
    if ended and now.state == COMPLETED:
        return {"action": now.act, "changed": now.done}
    return Json(shown(now), 202)


@router.get("/contacts/bulk/{act_id}")
async def get_act(here: Core, who: Owner, act_id: str) -> Any:
    """How far an act on many contacts is: running, completed, or failed, as when its segment went meanwhile; what was done stays. Forgotten after a week."""
    return shown(await here.store.read(bulk_acts.get, who.project, known("job", act_id, "Job")))


async def change_named(here: Relay, one: By, action: str, contact_ids: list[str], tags: list[str]) -> int:
    """How many of these contacts an action changed; raises Invalid."""
    tags = _tags(action, tags)
    if len(contact_ids) > NAMED:
        raise Invalid("contact_ids", f"contact_ids names at most {NAMED} contacts")
    numbers = [internal(each) for each in contact_ids]
    if None in numbers:
        place = numbers.index(None)
        raise Invalid(f"contact_ids[{place}]", f"contact_ids[{place}]: {contact_ids[place][:40]!r} is not the id of a contact")
    total = 0
    for start in range(0, len(numbers), SLICE):
        count, stopped = await here.store.write(acts.many, numbers[start:start + SLICE], action, tags, one, lane=JOBS)
        total += count
        done(here, stopped)
    return total


async def begun(here: Relay, one: By, action: str, segment_id: str, tags: list[str]) -> BulkAct:
    """The act on all of a segment, under way; raises Invalid, NotFound, Defer."""
    tags = _tags(action, tags)
    segment = await here.store.read(segments.get, one.project, known("seg", segment_id, "Segment"))
    told = {"source": one.act.source, "client": one.act.client, "agent": one.act.agent[:200], **one.act.more}
    wanted = {"segment": segment.id, "name": segment.name, "tags": tags, "evidence": told}
    return await here.control.bulk.begin(one.project, action, wanted, 0)  # type: ignore[no-any-return]


def _tags(action: str, given: list[str]) -> list[str]:
    """The tags that the action is about; raises Invalid."""
    if action not in (acts.TAG, acts.UNTAG):
        return []
    if not given:
        raise Invalid("tags", f"tags says what to {action}")
    return values.tags(given)


def shown(act: BulkAct) -> dict[str, Any]:
    """An act; `total` is null until its contacts are counted, of whom `seen` are looked at and `affected` changed."""
    counted = act.total or act.state != RUNNING
    return {"id": act.public_id, "action": act.act, "status": act.state, "total": act.total if counted else None, "seen": act.seen, "affected": act.done,
            "created_at": iso(act.created_at), "finished_at": iso(act.finished_at)}
