"""Exports: everything a project has of its audience, as CSV or JSON, streamed page by page, so that it takes no memory and holds no read open.

What a spreadsheet would run as a formula is defused with an apostrophe, which an import takes away again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from relay.api import contacts as shown
from relay.api.core import Core, Owner, Relay, known
from relay.audience.cells import defused
from relay.audience.grammars import read
from relay.clock import iso
from relay.mail.message import Principal
from relay.store.audience import audiences, contacts, segments, topics
from relay.store.audience.contacts import Contact, Filter
from relay.store.pages import Page

router = APIRouter(tags=["Exports"])

PAGE = 1_000  # rows of one read
FIELDS = ("email", "first_name", "last_name", "unsubscribed", "tags", "created_at", "updated_at")

Form = Annotated[Literal["csv", "json"], Query(alias="format")]
Rows = AsyncIterator[list[Any]]


@router.get("/contacts/export")
async def export_contacts(
    here: Core, who: Owner, form: Form = "csv",
    segment_id: Annotated[str | None, Query(description="Members of this segment only")] = None,
    audience_id: Annotated[str | None, Query(description="Members of this audience only")] = None,
) -> Any:
    """Export contacts, oldest first."""
    audience = (await here.store.read(audiences.get, who.project, known("aud", audience_id, "Audience"))).id if audience_id else None
    segment = (await here.store.read(segments.get, who.project, known("seg", segment_id, "Segment"))).id if segment_id else None
    return await _contacts(here, who, form, segment, audience)


@router.get("/audiences/export")
async def export_audiences(here: Core, who: Owner, form: Form = "json") -> Any:
    """Export every audience with the addresses of its members."""

    async def pages() -> Rows:
        page = Page(1, 100)
        while True:
            found = await here.store.read(audiences.paged, who.project, page)
            for each in found.rows:
                async for some in _walk(here, who, None, each.id):
                    yield [{"audience": each.name, "email": contact.email} for contact in some]
            if found.last is None:
                return
            page = Page(page.number + 1, 100, found.last)

    return _answer(form, ["audience", "email"], pages(), "audiences")


@router.get("/audiences/{audience_id}/export")
async def export_audience(here: Core, who: Owner, audience_id: str, form: Form = "csv") -> Any:
    """Export the contacts of an audience."""
    return await export_contacts(here, who, form, None, audience_id)


@router.get("/segments/export")
async def export_segments(here: Core, who: Owner, form: Form = "json") -> Any:
    """Export the definitions of all segments."""

    async def pages() -> Rows:
        page = Page(1, 100)
        while True:
            found = await here.store.read(segments.paged_list, who.project, page)
            yield [{"id": each.public_id, "name": each.name, "description": each.description, "rules": each.rules} for each in found.rows]
            if found.last is None:
                return
            page = Page(page.number + 1, 100, found.last)

    return _answer(form, ["id", "name", "description", "rules"], pages(), "segments")


@router.get("/subscriptions/export")
async def export_subscriptions(here: Core, who: Owner, form: Form = "csv") -> Any:
    """Export what everybody said of every topic."""

    async def pages() -> Rows:
        after = (0, 0)
        while some := await here.store.read(topics.said, who.project, after, PAGE):
            after = some[-1][:2]
            yield [{"email": row[2], "topic": row[3], "subscribed": bool(row[4]), "updated_at": iso(row[5])} for row in some]

    return _answer(form, ["email", "topic", "subscribed", "updated_at"], pages(), "subscriptions")


async def _contacts(here: Relay, who: Principal, form: str, segment: int | None, audience: int | None) -> StreamingResponse:
    if form == "json":
        return _answer(form, [], _mapped(_walk(here, who, segment, audience)), "contacts")
    names = await here.store.read(contacts.property_names, who.project)

    async def pages() -> Rows:
        async for some in _walk(here, who, segment, audience):
            yield [_row(contact, names) for contact in some]

    return _file(table([*FIELDS, *(f"properties.{name}" if name.lower() in FIELDS else name for name in names)], pages()), "text/csv", "contacts.csv")


def _row(contact: Contact, names: Sequence[str]) -> list[str]:
    fixed = [contact.email, contact.first_name or "", contact.last_name or "", _text(contact.unsubscribed), ",".join(contact.tags),
             iso(contact.created_at) or "", iso(contact.updated_at) or ""]
    return [*fixed, *(_text(contact.properties.get(name)) for name in names)]


async def _mapped(pages: AsyncIterator[list[Contact]]) -> Rows:
    async for some in pages:
        yield [shown.shown(contact) for contact in some]


async def _walk(here: Relay, who: Principal, segment: int | None, audience: int | None) -> AsyncIterator[list[Contact]]:
    """Contacts by id, a short read for each page."""
    last, now = 0, here.clock.now()
    while True:
        if segment is not None:
            some = await here.store.read(segments.members_after, who.project, segment, last, PAGE, now, read)
        else:
            some = await here.store.read(contacts.after, who.project, last, Filter(audience=audience), PAGE)
        if some:
            yield some
        if len(some) < PAGE:
            return
        last = some[-1].id


def _answer(form: str, columns: list[str], pages: Rows, name: str) -> StreamingResponse:
    if form == "json":
        return _file(_array(pages), "application/json", f"{name}.json")

    async def rows() -> Rows:
        async for some in pages:
            yield [[_text(each[column]) for column in columns] for each in some]

    return _file(table(columns, rows()), "text/csv", f"{name}.csv")


def _file(content: AsyncIterator[bytes], kind: str, name: str) -> StreamingResponse:
    return StreamingResponse(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


async def table(columns: Sequence[str], pages: Rows) -> AsyncIterator[bytes]:
    """CSV, a piece for each page."""
    yield _csv([list(columns)])
    async for some in pages:
        yield _csv(some)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([[defused(cell) for cell in row] for row in rows])
    return buffer.getvalue().encode()


async def _array(pages: Rows) -> AsyncIterator[bytes]:
    """A JSON array, a piece for each page."""
    yield b"["
    first = True
    async for some in pages:
        if some:
            yield (b"" if first else b",") + orjson.dumps(some)[1:-1]
            first = False
    yield b"]"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
