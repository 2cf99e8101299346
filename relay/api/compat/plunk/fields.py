"""/contacts/fields: which keys the contacts' data have, of which inferred type, on how many of them.

Types are those of the newest SAMPLE contacts. A key whose values have several types is a string, as segments and templates treat it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Query

from relay.api.compat.plunk import data
from relay.api.compat.plunk.errors import Bad
from relay.api.core import Core, Owner, Relay, resource
from relay.api.properties import strip
from relay.audience import values
from relay.audience.grammars import read
from relay.errors import Invalid
from relay.mail.message import Principal
from relay.store.audience import segments, walks
from relay.store.audience.rules import Rule, conditions
from relay.store.pages import Page

router = resource("Contacts")

FIXED = {"email": "string", "subscribed": "boolean", "createdAt": "date", "updatedAt": "date"}  # what every contact has
PREFIX = "data."
SEGMENTS = 100  # of one read
SAMPLE = 10_000  # contacts
MOST = 2_000  # names or values that are counted


@router.get("/contacts/fields")
async def list_fields(here: Core, who: Owner) -> Any:
    """All fields that segments may ask about, with type and coverage in percent."""
    kinds: dict[str, Counter[str]] = {}
    total = 0
    async for properties in _sample(here, who):
        total += 1
        for name, value in properties.items():
            if name in kinds or len(kinds) < MOST:
                kinds.setdefault(name, Counter())[data.kind(value)] += 1
    found = [{"field": name, "type": kind, "coverage": 100} for name, kind in FIXED.items()]
    found += [{"field": PREFIX + name, "type": data.common(each), "coverage": round(100 * each.total() / total)} for name, each in sorted(kinds.items())]
    return {"fields": found, "count": len(found)}


@router.get("/contacts/fields/{field}/values")
async def list_values(here: Core, who: Owner, field: str, limit: Annotated[int, Query(description="Up to 200")] = 100) -> Any:
    """The values that a key has, the commonest first."""
    counts: Counter[Any] = Counter()
    name = _name(field)
    async for properties in _sample(here, who):
        value = properties.get(name)
        if isinstance(value, (str, int, float)) and (len(counts) < MOST or (isinstance(value, bool), value) in counts):
            counts[isinstance(value, bool), value] += 1  # else 1 would be true
    found = [value for (_, value), _ in counts.most_common(min(max(limit, 1), 200))]
    return {"field": field, "values": found, "count": len(found)}


@router.get("/contacts/fields/{field}/usage")
async def get_usage(here: Core, who: Owner, field: str) -> Any:
    """The segments that ask about a key, and how many contacts of the newest have it."""
    name = _name(field)
    holding = [1 async for properties in _sample(here, who) if name in properties]
    used = await here.store.read(asking, who.project, "property", name)
    return {"field": field, "contacts": len(holding), "segments": used, "canDelete": not used}


@router.delete("/contacts/fields/{field}")
async def delete_field(here: Core, who: Owner, field: str) -> Any:
    """Take a key from all contacts, in the background from those of more than a thousand; 400 while a segment asks about it."""
    name = _name(field)
    used = await here.store.read(asking, who.project, "property", name)
    if used:
        raise Bad("field", f"{field} is used by the segment {used[0]['name']}")
    await strip(here, who, name)
    return {"success": True, "field": field}


async def _sample(here: Relay, who: Principal) -> AsyncIterator[dict[str, Any]]:
    """The properties of the SAMPLE newest contacts, a short read for each slice."""
    before, seen = None, 0
    while seen < SAMPLE and (some := await here.store.read(walks.sampled, who.project, before)):
        for _, properties in some:
            yield properties
        before, seen = some[-1][0], seen + len(some)


def _name(field: str) -> str:
    """The key of `plan` or `data.plan`; raises Bad for what every contact has, and for what no contact can have."""
    if field in FIXED:
        raise Bad("field", f"{field} is a field of every contact")
    try:
        return next(iter(values.properties({field.removeprefix(PREFIX): None}, {}, "field")))
    except Invalid as error:
        raise Bad("field", error.text) from None


def asking(conn: Any, project: int, kind: str, name: str) -> list[dict[str, str]]:
    """The segments of a project whose rules ask about this: a property by its key, an activity by its event's name."""
    found, page = [], Page(1, SEGMENTS)
    while True:
        part = segments.paged_list(conn, project, page)
        found += [{"id": each.public_id, "name": each.name} for each in part.rows if each.rules is not None and _asks(read(each.rules), kind, name)]
        if part.last is None:
            return found
        page = Page(page.number + 1, SEGMENTS, part.last)


def _asks(rule: Rule, kind: str, name: str) -> bool:
    return any(each.subject.kind == kind and each.subject.path[0] == name for each in conditions(rule))
