"""/contact-properties: which properties of contacts have a type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from relay.api.core import Core, Input, Owner, Relay, known, resource, whole
from relay.audience import values
from relay.clock import iso
from relay.errors import Invalid
from relay.mail.message import Principal
from relay.store.audience import bulk_acts, properties
from relay.store.audience.bulk_acts import BulkAct
from relay.store.audience.properties import Property

router = resource("Contact properties")

OPTIONS = 500  # of a select
FEW = 1_000  # contacts whose values of a deleted property go while the request waits

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
    """Delete a definition, and its values from all contacts: those of more than a thousand go in the background."""
    await removed(here, who, property_id)
    return {"deleted": True}


async def removed(here: Relay, who: Principal, property_id: str) -> BulkAct | None:
    """Delete a definition; what goes on taking its values, as `strip` gives it. Raises NotFound, Defer."""
    number = known("prop", property_id, "Property")
    name = (await here.store.read(properties.get, who.project, number)).name
    return await strip(here, who, name, lambda conn: properties.remove(conn, who.project, number))


async def strip(here: Relay, who: Principal, name: str, first: Callable[[Any], None] | None = None) -> BulkAct | None:
    """Take a property from all contacts, in the transaction of whose beginning `first` is done; the act that goes on with it, None when all is done: the
    values of FEW contacts are waited for. Raises Defer."""
    count = await here.store.read(properties.held, who.project, name, FEW + 1)
    act: BulkAct = await here.control.bulk.begin(who.project, properties.STRIP, {"property": name}, count if count <= FEW else 0, first)
    if count > FEW:
        return act
    await here.control.bulk.rest(act)
    now: BulkAct = await here.store.read(bulk_acts.get, who.project, act.id)
    return None if now.state == bulk_acts.COMPLETED else now


@router.get("/contact-properties/{property_id}/option-usage")
async def get_usage(here: Core, who: Owner, property_id: str) -> Any:
    """How many contacts have each value."""
    found = await here.store.read(properties.get, who.project, known("prop", property_id, "Property"))
    used = await here.store.read(properties.usage, who.project, found.name)
    return {"usage": {**dict.fromkeys(found.options, 0), **used}}


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
