"""The columns of a file of contacts in a form: what each means, as its name says or as the visitor chose, a property that is to be made among them.

    column.3     a field, "properties.NAME", "" to leave it out, or NEW
    property.3   the name of the new property, type.3 its type: "" defines none, and it takes any value
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.api import properties
from relay.api.properties import PropertyInput
from relay.audience import columns, table
from relay.audience import values as values_
from relay.audience.columns import PROPERTY
from relay.dashboard.visit import Visit
from relay.errors import Invalid
from relay.store.audience.properties import Property

NEW = "new"
TYPES = (("", "of any type"), ("text", "text"), ("number", "number"), ("boolean", "true or false"), ("date", "date"))
FIELDS = {
    "": "not taken over", "email": "Address", "first_name": "First name", "last_name": "Last name", "tags": "Tags",
    "subscribed": "Subscribed", "unsubscribed": "Unsubscribed", "unsubscribed_at": "Unsubscribed at", "created_at": "Added at", "updated_at": "Changed at",
    "last_active_at": "Last active at", "properties": "Properties, as JSON",
}


@dataclass(frozen=True, slots=True)
class Column:
    """`number` from 0; `chosen` what it means, NEW with the `property` of a `type`; `options` as pairs of value and label."""

    number: int
    name: str
    example: str
    chosen: str
    property: str
    type: str
    options: tuple[tuple[str, str], ...]

    @property
    def meaning(self) -> str:
        return PROPERTY + self.property if self.chosen == NEW else self.chosen


async def found(visit: Visit, path: Path, name: str) -> list[Column]:
    """The file's columns with what the form says of them; raises Invalid."""
    defined = {each["name"]: each["label"] for each in (await properties.list_properties(visit.here, visit.who))["properties"]}
    return [_column(visit, number, each, defined) for number, each in enumerate(await asyncio.to_thread(_read, path, name))]


def _read(path: Path, name: str) -> list[table.Column]:
    with path.open("rb") as file:
        return table.columns(file, name)


def _column(visit: Visit, number: int, each: table.Column, defined: dict[str, str]) -> Column:
    own = each.meaning.removeprefix(PROPERTY)
    options = {**FIELDS, **{PROPERTY + name: label for name, label in defined.items()}}
    if each.meaning not in options:
        options[each.meaning] = f"a property {own}" if each.meaning.startswith(PROPERTY) else own.replace("_", " ").capitalize()
    options[NEW] = "a new property ..."
    chosen = visit.given(f"column.{number}") if f"column.{number}" in visit.form else each.meaning
    if chosen not in options:
        raise Invalid(f"column.{number}", f"there is no {chosen[:80]!r} that a column can mean")
    kind = visit.given(f"type.{number}")
    if kind not in dict(TYPES):
        raise Invalid(f"type.{number}", f"a property is {', '.join(label for _, label in TYPES[1:])}")
    name = visit.given(f"property.{number}") if f"property.{number}" in visit.form else own if each.meaning.startswith(PROPERTY) else ""
    return Column(number, each.name, each.example, chosen, name, kind, tuple(options.items()))


def mapping(chosen: list[Column]) -> dict[str, str]:
    """What the columns mean, for relay.audience; raises Invalid for the name of a new property that none can have."""
    for each in chosen:
        if each.chosen == NEW:
            values_.properties({each.property: None}, {}, f"property.{each.number}")
    return columns.told({each.name: each.meaning for each in chosen})


async def typed(visit: Visit, chosen: list[Column]) -> dict[str, Property]:
    """The properties that are to be defined, as if they were."""
    return {each.property: Property(0, visit.who.project, each.property, each.property, each.type, [], False, 0.0)  # type: ignore[union-attr]
            for each in chosen if each.chosen == NEW and each.type}


async def define(visit: Visit, chosen: list[Column]) -> None:
    """Define the new properties; one that is there with this type is left alone. Raises Invalid, Conflict."""
    there: dict[str, Any] = {each["name"]: each["type"] for each in (await properties.list_properties(visit.here, visit.who))["properties"]}
    for each in chosen:
        if each.chosen == NEW and each.type and there.get(each.property) != each.type:
            try:
                await properties.define_property(visit.here, visit.who, PropertyInput(name=each.property, type=each.type))
            except (Invalid, ValidationError) as error:
                raise Invalid(f"property.{each.number}", visit.wrong(error).text) from None
