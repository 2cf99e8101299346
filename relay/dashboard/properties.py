"""Properties: the definitions that a project has of its contacts' properties; made, changed, and deleted with the consequence told."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from relay.api import properties
from relay.api.core import known
from relay.api.properties import PropertyChange, PropertyInput
from relay.audience.grammars import read
from relay.audience.segments import MOST
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, RelayError
from relay.store.audience import properties as stored
from relay.store.audience import segments
from relay.store.audience.rules import conditions
from relay.store.pages import Page

PATH = "/dashboard/properties"
TYPES = (("text", "text"), ("number", "number"), ("boolean", "true or false"), ("date", "date"), ("select", "one of a list"))


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    return visit.show("properties/list.html", error=error, types=TYPES, **await properties.list_properties(visit.here, visit.who))


async def define(visit: Visit) -> Response:
    try:
        given = PropertyInput(name=visit.given("name"), label=visit.given("label") or None, type=visit.given("type") or "text", options=_options(visit),
                              required=visit.ticked("required"))
        made = await properties.define_property(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return visit.go(PATH, f"{made['label']} is defined: contacts take values of its type only from now on.")


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    """A definition to change, with how many contacts have each value of a select."""
    name = visit.number("property_id")
    found = await properties.get_property(visit.here, visit.who, name)
    return visit.show("properties/one.html", error=error, property=found, types=dict(TYPES))


async def change(visit: Visit) -> Response:
    name = visit.number("property_id")
    found = await properties.get_property(visit.here, visit.who, name)
    try:
        options = _options(visit) if found["type"] == "select" else None
        if found["type"] == "select" and not options:
            raise Invalid("options", "a select has at least one option")
        given = PropertyChange(label=visit.given("label"), options=options, required=visit.ticked("required"))
        await properties.change_property(visit.here, visit.who, name, given)
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(PATH, "Saved.")


async def usage(visit: Visit) -> Response:
    """How many contacts have a value: a part of a page, since it reads them all."""
    found = await visit.here.store.read(stored.get, visit.who.project, known("prop", visit.number("property_id"), "Property"))
    held = await visit.here.store.read(stored.held, visit.who.project, found.name)
    return HTMLResponse(f"<strong>{held:,}</strong> contact{'' if held == 1 else 's'} have a value of it now.")


async def doubt(visit: Visit) -> Response:
    """What goes with the definition, before it goes."""
    found = await properties.get_property(visit.here, visit.who, visit.number("property_id"))
    asking = await visit.here.store.read(_asking, visit.who.project, found["name"])
    return visit.show("properties/delete.html", property=found, asking=asking)


def _asking(conn: Any, project: int, name: str) -> list[str]:
    """The names of the segments whose rules ask about a property."""
    every = segments.paged_list(conn, project, Page(1, MOST)).rows
    return [each.name for each in every if each.rules is not None
            and any(asked.subject.kind == "property" and asked.subject.path[0] == name for asked in conditions(read(each.rules)))]


async def delete(visit: Visit) -> Response:
    """Its values may be very many: then they go in the background, and a page shows how far that is."""
    act = await properties.removed(visit.here, visit.who, visit.number("property_id"))
    if act is not None:
        return visit.go(f"/dashboard/contacts/acts/{act.public_id}", "The property is deleted; its values go now.")
    return visit.go(PATH, "The property is deleted, and so are its values.")


def _options(visit: Visit) -> list[str] | None:
    """A line for each option."""
    return [each for each in map(str.strip, visit.given("options").splitlines()) if each] or None


ROUTES = (
    get("/properties", every), post("/properties", define), get("/properties/{property_id}", one), post("/properties/{property_id}", change),
    get("/properties/{property_id}/usage", usage), get("/properties/{property_id}/delete", doubt), post("/properties/{property_id}/delete", delete),
)
