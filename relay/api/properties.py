"""/contact-properties: which properties of contacts have a type."""

from __future__ import annotations

import re
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from relay.api.core import Core, Input, Owner, Relay, known, whole
from relay.audience import values
from relay.clock import iso
from relay.errors import Invalid
from relay.store.audience import properties
from relay.store.audience.properties import Property
from relay.store.engine import JOBS

router = APIRouter(tags=["Contact properties"])

OPTIONS = 500  # of a select

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class PropertyInput(Input):
    """A property's name, and the type that its values have; `string` is another word for `text`."""

    name: str
    label: str | None = Field(None, max_length=128)
    type: Literal["text", "string", "number", "boolean", "date", "select"] = "text"
    options: list[str] | None = Field(None, max_length=OPTIONS)
    required: bool = False


class PropertyChange(Input):
    """What may change; name and type never do."""

    label: str | None = Field(None, max_length=128)
    options: list[str] | None = Field(None, max_length=OPTIONS)
    required: bool | None = None


@router.get("/contact-properties")
async def list_properties(here: Core, who: Owner) -> Any:
    """All definitions."""
    found = await here.store.read(properties.of, who.project)
    return whole("properties", [shown(each) for each in found.values()])


@router.post("/contact-properties", status_code=201)
async def define_property(here: Core, who: Owner, given: PropertyInput) -> Any:
    """Define a property: from now on contacts take values of its type only. Values that are there stay."""
    if not _NAME.fullmatch(given.name):
        raise Invalid("name", "name has 1 to 64 letters, digits, _, - or ., and begins with a letter")
    kind = "text" if given.type == "string" else given.type
    made = Property(here.maker.next(), who.project, given.name, given.label or given.name, kind, _options(kind, given.options), given.required,
                    here.clock.now())
    return shown(await here.store.write(properties.add, made))


@router.get("/contact-properties/{property_id}")
async def get_property(here: Core, who: Owner, property_id: str) -> Any:
    """One definition."""
    return shown(await here.store.read(properties.get, who.project, known("prop", property_id, "Property")))


@router.patch("/contact-properties/{property_id}")
async def change_property(here: Core, who: Owner, property_id: str, given: PropertyChange) -> Any:
    """Change label, options or whether it is required."""
    number = known("prop", property_id, "Property")
    changes = given.model_dump(exclude_none=True)
    if "options" in changes:
        changes["options"] = _options((await here.store.read(properties.get, who.project, number)).type, changes["options"])
    return shown(await here.store.write(properties.change, who.project, number, changes))


@router.delete("/contact-properties/{property_id}")
async def remove_property(here: Core, who: Owner, property_id: str) -> Any:
    """Delete a definition, and its values from all contacts."""
    name = await here.store.write(properties.remove, who.project, known("prop", property_id, "Property"))
    await strip(here, who.project, name)
    return {"deleted": True}


@router.get("/contact-properties/{property_id}/option-usage")
async def get_usage(here: Core, who: Owner, property_id: str) -> Any:
    """How many contacts have each value."""
    found = await here.store.read(properties.get, who.project, known("prop", property_id, "Property"))
    used = await here.store.read(properties.usage, who.project, found.name)
    return {"usage": {**dict.fromkeys(found.options, 0), **used}}


async def strip(here: Relay, project: int, name: str) -> None:
    """Take a property from all contacts, in slices."""
    last: int | None = 0
    while last is not None:
        last = await here.store.write(properties.strip, project, name, last, here.clock.now(), lane=JOBS)


def _options(kind: str, given: list[str] | None) -> list[str]:
    if kind != "select":
        if given:
            raise Invalid("options", "options are of a select")
        return []
    if not given:
        raise Invalid("options", "a select has at least one option")
    for each in given:
        values.text(each, "options")
    return list(dict.fromkeys(given))


def shown(each: Property) -> dict[str, Any]:
    return {"id": each.public_id, "name": each.name, "label": each.label, "type": each.type, "options": each.options or None, "required": each.required,
            "created_at": iso(each.created_at)}
