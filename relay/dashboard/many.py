"""Acts on many contacts: those that are ticked in a list, or all of a segment. The first press asks, and says how many; the second does it.

A segment may be very large, so what is done to all of it goes on behind the mail (relay.audience.bulk), and a page shows how far it is.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from relay.api import bulk, contacts, segments
from relay.api.contacts import number
from relay.api.core import known, listed
from relay.clock import iso
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, NotFound, RelayError
from relay.store.audience import bulk_acts
from relay.store.audience import contacts as stored
from relay.store.audience import segments as stored_segments
from relay.store.audience.bulk_acts import BulkAct
from relay.store.audience.properties import STRIP

ACTS = {"tag": "Tag", "untag": "Take a tag from", "unsubscribe": "Unsubscribe", "delete": "Delete"}
SAID = {**ACTS, "subscribe": "Subscribe"}  # those that the API knows too
DONE = {"tag": "tagged", "untag": "without the tag", "unsubscribe": "unsubscribed", "delete": "deleted", "subscribe": "subscribed", STRIP: "without it"}
NAMED = 10  # addresses that the question names
PLACE = "/dashboard/contacts/acts"


async def ask(visit: Visit) -> Response:
    """The question; of a segment among very many contacts the count comes after it."""
    act, ticked, segment_id = visit.asked("act"), [str(each)[:64] for each in visit.query.getlist("contact")], visit.asked("segment_id")
    if act not in ACTS:
        raise Invalid("act", f"act is {', '.join(ACTS)}")
    if not segment_id and not ticked:
        return visit.go("/dashboard/contacts", "Nobody is ticked: tick the contacts first.")
    return await _question(visit, act, ticked, segment_id)


async def do(visit: Visit) -> Response:
    act, ticked, segment_id = visit.given("act"), [str(each) for each in visit.form.getlist("contact")], visit.given("segment_id")
    if act not in ACTS:
        raise Invalid("act", f"act is {', '.join(ACTS)}")
    tags = [tag for tag in map(str.strip, visit.given("tags").split(",")) if tag]
    whose = contacts.by(visit.here, visit.who, visit.request, "dashboard")
    try:
        if segment_id:
            return visit.go(f"{PLACE}/{(await bulk.begun(visit.here, whose, act, segment_id, tags)).public_id}")
        done = await bulk.change_named(visit.here, whose, act, ticked, tags)
    except Invalid as error:
        return await _question(visit, act, ticked, segment_id, error)
    return visit.go("/dashboard/contacts", f"{_people(done)} {DONE[act]} now.")


def _people(count: int) -> str:
    return f"{count:,} contact{'' if count == 1 else 's'} {'is' if count == 1 else 'are'}"


async def _question(visit: Visit, act: str, ticked: list[str], segment_id: str, error: RelayError | None = None) -> Response:
    segment, people, later = None, [], bool(segment_id) and await visit.later()
    if segment_id:
        asked = segments.described if later else segments.get_segment
        segment = await asked(visit.here, visit.who, segment_id)
    else:
        people = await visit.here.store.read(stored.by_ids, visit.who.project, list(dict.fromkeys(map(number, ticked)))[:stored.KEYS])
    return visit.show("contacts/many.html", error=error, act=act, words=ACTS[act], segment=segment, later=later,
                      count=segment["contact_count"] if segment else len(people), people=[each.email for each in people[:NAMED]],
                      ticked=[each.public_id for each in people])


async def every(visit: Visit) -> Response:
    page = visit.page()
    return visit.show("contacts/acts.html", **listed("acts", await visit.here.store.read(bulk_acts.paged, visit.who.project, page), page, _told))


async def one(visit: Visit) -> Response:
    """How far an act is."""
    found = await visit.here.store.read(bulk_acts.get, visit.who.project, known("job", visit.number("act_id"), "Act"))
    there = None
    if found.wanted.get("segment"):
        there = await _segment(visit, found.wanted["segment"])
    return visit.show("contacts/act.html", told=_told(found), changed=_people(found.done), there=there)


async def _segment(visit: Visit, number: int) -> str | None:
    """The public id of the act's segment while it is there."""
    try:
        return (await visit.here.store.read(stored_segments.get, visit.who.project, number)).public_id  # type: ignore[no-any-return]
    except NotFound:
        return None


def _told(act: BulkAct) -> dict[str, Any]:
    return {"id": act.public_id, "heading": _heading(act), "done_word": DONE.get(act.act, act.act), "state": act.state, "total": act.total,
            "seen": act.seen, "done": act.done, "created_at": iso(act.created_at), "finished_at": iso(act.finished_at),
            "tags": act.wanted.get("tags", [])}


def _heading(act: BulkAct) -> str:
    if act.act == STRIP:
        return f"Take the deleted property {act.wanted['property']} from everybody"
    return f"{SAID[act.act]} {'everybody in ' + act.wanted['name'] if 'name' in act.wanted else 'contacts'}"


ROUTES = (get("/contacts/many", ask), post("/contacts/many", do), get("/contacts/acts", every), get("/contacts/acts/{act_id}", one))
