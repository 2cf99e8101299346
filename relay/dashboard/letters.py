"""Templates: written with a live preview, published as versions that can be compared and put back, duplicated, begun from a preset."""

from __future__ import annotations

import asyncio
import difflib
from itertools import islice
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay import presets
from relay.api import templates
from relay.api.templates import TemplateChange, TemplateInput
from relay.dashboard import preview
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, NotFound, RelayError
from relay.mail.mime import Texts
from relay.store import templates as stored

SEARCH = 200  # characters
LINES = 2_000  # of a text that is compared; comparing takes the square of it at worst
STATES = (("", "any"), ("published", "published"), ("draft", "draft"))
PARTS = ("subject", "html", "text")
PLACE = "/dashboard/templates"


async def every(visit: Visit) -> Response:
    search, state = visit.asked("search")[:SEARCH], visit.asked("state")
    published = {"published": True, "draft": False}.get(state)
    found = await templates.list_templates(visit.here, visit.who, visit.page(), search, published)
    return visit.show("templates/list.html", **found, search=search, state=state, states=STATES)


async def new(visit: Visit) -> Response:
    """An empty form, and the presets to begin with."""
    return _form(visit, {"name": "", "subject": "", "html": "", "text": ""})


async def create(visit: Visit) -> Response:
    try:
        given = TemplateInput(name=visit.given("name"), **{name: preview.written(visit, name) for name in PARTS})
        made = await templates.create_template(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return _form(visit, {"name": "", "subject": "", "html": "", "text": ""}, visit.wrong(error))
    return await _saved(visit, made)


async def begin(visit: Visit) -> Response:
    """A new template with the texts of a preset."""
    made = await templates.use_preset(visit.here, visit.who, visit.given("preset"))
    return visit.go(f"{PLACE}/{made['id']}", "A copy of the preset, a draft: make it yours, then publish it.")


async def preset(visit: Visit) -> Response:
    """What a preset looks like, for a frame."""
    found = presets.PRESETS.get(visit.number("preset_id"))
    if found is None:
        raise NotFound("Preset not found")
    return preview.shown((await preview.of(visit, found.texts)).texts)


async def one(visit: Visit) -> Response:
    """A template in its form."""
    return _form(visit, await templates.get_template(visit.here, visit.who, visit.number("template_id")))


async def save(visit: Visit) -> Response:
    name = visit.number("template_id")
    try:
        given = TemplateChange(name=visit.given("name"), **{part: preview.written(visit, part) for part in PARTS})
        made = await templates.change_template(visit.here, visit.who, name, given)
    except (Invalid, ValidationError) as error:
        return _form(visit, await templates.get_template(visit.here, visit.who, name), visit.wrong(error))
    return await _saved(visit, made)


async def _saved(visit: Visit, made: Any) -> Response:
    """What the button that was pressed asked for beyond saving."""
    if visit.given("do") == "publish":
        return await _published(visit, made["id"])
    if made["published"] and made["published_version"] != made["version"]:
        return visit.go(f"{PLACE}/{made['id']}", f"Saved. Version {made['published_version']} goes on being sent until this one is published.")
    return visit.go(f"{PLACE}/{made['id']}", "Saved." if made["published"] else "Saved as a draft.")


def _form(visit: Visit, template: Any, error: RelayError | None = None) -> Response:
    place = f"{PLACE}/{template['id']}" if "id" in template else f"{PLACE}/new"
    return visit.show("templates/form.html", error=error, template=template, place=place, presets=presets.PRESETS.values())


async def unpublish(visit: Visit) -> Response:
    made = await templates.unpublish_template(visit.here, visit.who, visit.number("template_id"))
    return visit.go(f"{PLACE}/{made['id']}", "A draft again: mail that names it is refused.")


async def duplicate(visit: Visit) -> Response:
    made = await templates.duplicate_template(visit.here, visit.who, visit.number("template_id"))
    return visit.go(f"{PLACE}/{made['id']}", "This is the copy, a draft.")


async def delete(visit: Visit) -> Response:
    await templates.delete_template(visit.here, visit.who, visit.number("template_id"))
    return visit.go(PLACE, "The template is deleted; sent mail stays as it is.")


async def versions(visit: Visit) -> Response:
    """The published versions, and how one of them (`version`) differs from the present texts or another (`beside`)."""
    name = visit.number("template_id")
    template = await templates.get_template(visit.here, visit.who, name)
    rows = {str(each["version"]): each for each in (await templates.list_versions(visit.here, visit.who, name))["versions"]}
    chosen, beside = rows.get(visit.asked("version")), rows.get(visit.asked("beside"), template)
    compared = await asyncio.to_thread(differences, chosen, beside) if chosen else []
    return visit.show("templates/versions.html", template=template, versions=list(rows.values()), chosen=chosen, beside=beside, compared=compared)


def differences(old: Any, new: Any) -> list[tuple[str, list[tuple[str, str]] | None]]:
    """For each part of two letters that differs its name and the lines as (mark, line), mark " ", "-", "+" or "@"; None for what is too long to compare."""
    found: list[tuple[str, list[tuple[str, str]] | None]] = []
    for part in PARTS:
        before, after = ((each[part] or "").splitlines() for each in (old, new))
        if before != after:
            found.append((part, None if max(len(before), len(after)) > LINES else _marked(before, after)))
    return found


def _marked(before: list[str], after: list[str]) -> list[tuple[str, str]]:
    lines = islice(difflib.unified_diff(before, after, lineterm="", n=3), 2, None)  # after the names of two files
    return [(line[0], line[1:] if line[0] != "@" else line) for line in lines]


async def version(visit: Visit) -> Response:
    """What a published version looks like, for a frame."""
    template = await visit.here.store.read(stored.get, visit.who.project, templates.number_of(visit.number("template_id")))
    texts: Texts = await visit.here.store.read(stored.version, template, visit.request.path_params["version"])
    return preview.shown((await preview.of(visit, texts)).texts)


async def restore(visit: Visit) -> Response:
    name, number = visit.number("template_id"), visit.given("version")
    if not (number.isascii() and number.isdecimal() and len(number) < 9):
        raise Invalid("version", "version is a number of the list")
    made = await templates.restore_version(visit.here, visit.who, name, int(number))
    return visit.go(f"{PLACE}/{made['id']}", f"The texts of version {number} are back, to be edited or published.")


async def _published(visit: Visit, name: str) -> Response:
    made = await templates.publish_template(visit.here, visit.who, name)
    return visit.go(f"{PLACE}/{made['id']}", f"Published: version {made['version']} is sent from now on.")


ROUTES = (
    get("/templates", every), get("/templates/new", new), post("/templates/new", create), post("/templates/presets", begin),
    get("/templates/presets/{preset_id}", preset), get("/templates/{template_id}", one), post("/templates/{template_id}", save),
    post("/templates/{template_id}/unpublish", unpublish), post("/templates/{template_id}/duplicate", duplicate),
    post("/templates/{template_id}/delete", delete), get("/templates/{template_id}/versions", versions),
    get("/templates/{template_id}/versions/{version:int}", version), post("/templates/{template_id}/restore", restore),
)
