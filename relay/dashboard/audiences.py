"""Audiences: named groups of contacts; made, renamed, exported, and their members put in and taken out by hand."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import audiences
from relay.api.audiences import AudienceChange, AudienceInput
from relay.api.segments import MembersInput
from relay.dashboard.visit import Visit, get, post
from relay.errors import NotFound, RelayError

PATH = "/dashboard/audiences"


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    later = await visit.later()
    found = await (audiences.uncounted if later else audiences.list_audiences)(visit.here, visit.who, visit.page())
    return visit.show("audiences/list.html", error=error, later=later, **found)


async def create(visit: Visit) -> Response:
    try:
        given = AudienceInput(name=visit.given("name"), description=visit.given("description"))
        made = await audiences.create_audience(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return visit.go(f"{PATH}/{made['id']}", "The audience is there.")


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    """An audience and its members; of one among very many contacts these come after the page."""
    name, later = visit.number("audience_id"), await visit.later()
    found = await (audiences.described if later else audiences.get_audience)(visit.here, visit.who, name)
    members = {} if later else await audiences.list_members(visit.here, visit.who, name, visit.page())
    return visit.show("audiences/one.html", error=error, audience=found, later=later, **members)


async def change(visit: Visit) -> Response:
    name = visit.number("audience_id")
    try:
        given = AudienceChange(name=visit.given("name"), description=visit.given("description"))
        await audiences.change_audience(visit.here, visit.who, name, given)
    except NotFound:
        raise
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(f"{PATH}/{name}", "Saved.")


async def put(visit: Visit) -> Response:
    """Contacts by their addresses."""
    name = visit.number("audience_id")
    await audiences.get_audience(visit.here, visit.who, name)
    try:
        given = MembersInput(emails=visit.given("emails").replace(",", " ").split())
        done = await audiences.add_members(visit.here, visit.who, name, given)
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    missing = f" No contact has {', '.join(done['not_found'][:5])}." if done["not_found"] else ""
    return visit.go(f"{PATH}/{name}", f"{done['added']:,} added.{missing}")


async def take(visit: Visit) -> Response:
    name = visit.number("audience_id")
    await audiences.remove_member(visit.here, visit.who, name, visit.given("contact_id"))
    return visit.go(f"{PATH}/{name}", "Taken out; the contact stays.")


async def delete(visit: Visit) -> Response:
    await audiences.delete_audience(visit.here, visit.who, visit.number("audience_id"))
    return visit.go(PATH, "The audience is deleted; its contacts stay.")


ROUTES = (
    get("/audiences", every), post("/audiences", create), get("/audiences/{audience_id}", one), post("/audiences/{audience_id}", change),
    post("/audiences/{audience_id}/members", put), post("/audiences/{audience_id}/remove", take), post("/audiences/{audience_id}/delete", delete),
)
