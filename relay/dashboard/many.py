"""Acts on many contacts: those that are ticked in a list, or all of a segment. The first press asks, and says how many; the second does it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import contacts, segments
from relay.api.contacts import BulkInput, number
from relay.dashboard.visit import Visit, post
from relay.errors import Invalid, RelayError
from relay.store.audience import contacts as stored

ACTS = {"tag": "Tag", "untag": "Take a tag from", "unsubscribe": "Unsubscribe", "delete": "Delete"}
DONE = {"tag": "tagged", "untag": "without the tag", "unsubscribe": "unsubscribed", "delete": "deleted"}
NAMED = 10  # addresses that the question names


async def ask(visit: Visit) -> Response:
    """The question."""
    act, ticked, segment_id = visit.given("act"), [str(each) for each in visit.form.getlist("contact")], visit.given("segment_id")
    if act not in ACTS:
        raise Invalid("act", f"act is {', '.join(ACTS)}")
    segment = await segments.get_segment(visit.here, visit.who, segment_id) if segment_id else None
    if segment is None and not ticked:
        return visit.go("/dashboard/contacts", "Nobody is ticked: tick the contacts first.")
    return await _question(visit, act, ticked, segment)


async def do(visit: Visit) -> Response:
    act, ticked, segment_id = visit.given("act"), [str(each) for each in visit.form.getlist("contact")], visit.given("segment_id")
    segment = await segments.get_segment(visit.here, visit.who, segment_id) if segment_id else None
    try:
        tags = [tag for tag in map(str.strip, visit.given("tags").split(",")) if tag]
        given = BulkInput(action=act, contact_ids=None if segment else ticked, segment_id=segment_id or None, tags=tags)
        done = await contacts.change_many(visit.here, visit.who, visit.request, given)
    except (Invalid, ValidationError) as error:
        if act not in ACTS:
            raise
        return await _question(visit, act, ticked, segment, visit.wrong(error))
    back = f"/dashboard/segments/{segment_id}" if segment and act != "delete" else "/dashboard/contacts"
    return visit.go(back, f"{done['changed']:,} contact{'' if done['changed'] == 1 else 's'} {'is' if done['changed'] == 1 else 'are'} {DONE[act]} now.")


async def _question(visit: Visit, act: str, ticked: list[str], segment: Any, error: RelayError | None = None) -> Response:
    numbers = list(dict.fromkeys(map(number, ticked)))
    people = [] if segment else await visit.here.store.read(stored.by_ids, visit.who.project, numbers)
    count = segment["contact_count"] if segment else len(people)
    return visit.show("contacts/many.html", error=error, act=act, words=ACTS[act], segment=segment, count=count, people=[each.email for each in people[:NAMED]],
                      ticked=[each.public_id for each in people])


ROUTES = (post("/contacts/many", ask), post("/contacts/many/do", do))
