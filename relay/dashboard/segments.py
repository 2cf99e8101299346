"""Segments: the list of them, and one with its members; those of a static one are searched, added and removed here. relay.dashboard.builder has the forms."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import JSONResponse, Response

from relay.api import segments
from relay.api.segments import MembersInput
from relay.dashboard.visit import Visit, get, post
from relay.store.audience import contacts as people
from relay.store.pages import Page

SEARCH = 200  # characters
FOUND = 10  # contacts that a search for members shows
DAYS = 90  # of growth
LISTED = 1_000  # contacts of which each segment of a list is counted while the page is waited for


async def every(visit: Visit) -> Response:
    if later := await visit.later(LISTED):
        found = await segments.uncounted(visit.here, visit.who, visit.page())
    else:
        found = await segments.list_segments(visit.here, visit.who, visit.page(), audience_id=None)
    return visit.show("segments/list.html", **found, later=later)


async def one(visit: Visit) -> Response:
    """A segment and its members; `find` looks for contacts to put on the list of a static one."""
    name, search, find = visit.number("segment_id"), visit.asked("search")[:SEARCH], visit.asked("find")[:SEARCH]
    if later := await visit.later():
        segment, members = await segments.described(visit.here, visit.who, name), {"contacts": [], "pagination": None}
    else:
        segment = await segments.get_segment(visit.here, visit.who, name)
        members = await segments.list_members(visit.here, visit.who, visit.page(), name, search=search or None)
    growing = segment["type"] == "static" or segment["track_membership"]  # what is neither has days only once it was counted
    growing = growing or (await segments.get_growth(visit.here, visit.who, name, days=DAYS))["available"]
    found = await _found(visit, find) if find and segment["type"] == "static" else []
    return visit.show("segments/one.html", segment=segment, members=members["contacts"], pagination=members["pagination"], search=search, find=find,
                      found=found, growing=growing, later=later)


async def _found(visit: Visit, find: str) -> list[people.Contact]:
    """Contacts to be put on a list: of very many first those that are found at once, and all with `whole` "find"."""
    if visit.asked("whole") != "find":
        return await visit.here.store.read(people.suggested, visit.who.project, find, FOUND)
    return (await visit.here.store.read(people.paged, visit.who.project, Page(1, FOUND), people.Filter(find))).rows


async def growth(visit: Visit) -> Response:
    """Members at the end of each day, for the chart."""
    daily = (await segments.get_growth(visit.here, visit.who, visit.number("segment_id"), days=DAYS))["daily"]
    return JSONResponse({"at": [_day(each["date"]) for each in daily], "series": [{"label": "members", "values": [each["members"] for each in daily]}]})


def _day(date: str) -> float:
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()


async def put(visit: Visit) -> Response:
    name = visit.number("segment_id")
    done = await segments.add_members(visit.here, visit.who, name, MembersInput(contact_ids=[visit.given("contact_id")]))
    return visit.go(f"/dashboard/segments/{name}", "Added." if done["added"] else "Was on the list already.")


async def take(visit: Visit) -> Response:
    name = visit.number("segment_id")
    await segments.remove_member(visit.here, visit.who, name, visit.given("contact_id"))
    return visit.go(f"/dashboard/segments/{name}", "Removed from the list; the contact stays.")


async def delete(visit: Visit) -> Response:
    await segments.delete_segment(visit.here, visit.who, visit.number("segment_id"))
    return visit.go("/dashboard/segments", "The segment is deleted; its contacts stay.")


ROUTES = (
    get("/segments", every), get("/segments/{segment_id}", one), get("/segments/{segment_id}/growth", growth),
    post("/segments/{segment_id}/members", put), post("/segments/{segment_id}/remove", take), post("/segments/{segment_id}/delete", delete),
)
