"""Signup forms: made, changed, stopped and deleted; each with the address of its page."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import forms
from relay.api.forms import FieldInput, FormChange, FormInput
from relay.dashboard.visit import Visit, get, post
from relay.errors import NotFound, RelayError
from relay.store.audience import segments, topics
from relay.store.pages import Page

PATH = "/dashboard/forms"
ROWS = 10  # questions of a form
CHOICES = Page(1, 500)  # static segments and topics to choose from
TYPES = (("text", "text"), ("select", "one of a list"), ("checkbox", "box to tick"), ("email", "address"))
PARTS = ("name", "type", "label", "placeholder", "options")
BLANK = {"name": "", "active": True, "segment_id": None, "topic_id": None, "fields": [{"name": "email", "type": "email"}, {"name": "first_name"}],
         "success_message": "", "redirect_url": None, "double_opt_in": True, "from": None}


async def every(visit: Visit) -> Response:
    return visit.show("forms/list.html", **await forms.list_forms(visit.here, visit.who, visit.page()))


async def new(visit: Visit) -> Response:
    return await _page(visit, BLANK)


async def create(visit: Visit) -> Response:
    try:
        made = await forms.create_form(visit.here, visit.who, FormInput(**_given(visit)))
    except (RelayError, ValidationError) as error:
        return await _page(visit, {**BLANK, "fields": _fields(visit)}, visit.wrong(error))
    return visit.go(f"{PATH}/{made['id']}", "The form is there: its page is below.")


async def one(visit: Visit) -> Response:
    return await _page(visit, await forms.get_form(visit.here, visit.who, visit.number("form_id")))


async def change(visit: Visit) -> Response:
    name = visit.number("form_id")
    old = await forms.get_form(visit.here, visit.who, name)
    try:
        await forms.change_form(visit.here, visit.who, name, FormChange(**_given(visit)))
    except NotFound:
        raise
    except (RelayError, ValidationError) as error:
        return await _page(visit, {**old, "fields": _fields(visit)}, visit.wrong(error))
    return visit.go(f"{PATH}/{name}", "Saved.")


async def delete(visit: Visit) -> Response:
    await forms.delete_form(visit.here, visit.who, visit.number("form_id"))
    return visit.go(PATH, "The form is deleted; who signed up by it stays.")


async def _page(visit: Visit, form: Any, error: RelayError | None = None) -> Response:
    read, project = visit.here.store.read, visit.who.project  # type: ignore[union-attr]
    lists = [(each.public_id, each.name) for each in (await read(segments.paged_list, project, CHOICES)).rows if each.rules is None]
    streams = [(each.public_id, each.name) for each in (await read(topics.paged, project, CHOICES)).rows]
    rows = [*form["fields"], *({} for _ in range(ROWS))][:ROWS]
    place = f"{PATH}/{form['id']}" if "id" in form else f"{PATH}/new"
    return visit.show("forms/one.html", error=error, form=form, rows=rows, types=TYPES, lists=lists, streams=streams, place=place)


def _given(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = {name: visit.given(name) for name in ("name", "success_message")}
    found |= {name: visit.given(name) or None for name in ("segment_id", "topic_id", "redirect_url", "from")}
    found |= {name: visit.ticked(name) for name in ("double_opt_in", "active")}
    return {**found, "fields": [FieldInput(**each) for each in _fields(visit)]}


def _fields(visit: Visit) -> list[dict[str, Any]]:
    """The questions of the form, those without a name left out."""
    found = []
    for number in range(ROWS):
        row: dict[str, Any] = {part: visit.given(f"{part}.{number}") for part in PARTS}
        options = [each for each in map(str.strip, row["options"].split(",")) if each]
        if row["name"]:
            found.append({**row, "type": row["type"] or "text", "options": options, "required": visit.ticked(f"required.{number}")})
    return found


ROUTES = (
    get("/forms", every), get("/forms/new", new), post("/forms/new", create), get("/forms/{form_id}", one), post("/forms/{form_id}", change),
    post("/forms/{form_id}/delete", delete),
)
