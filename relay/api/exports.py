"""Exports: everything a project has of its audience, as CSV or JSON, streamed page by page, so that it takes no memory and holds no read open."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.responses import StreamingResponse

from relay.api.core import Core, Owner, Relay, known, resource
from relay.audience import exporter
from relay.audience.cells import defused
from relay.audience.exports import CONTACTS, Export
from relay.mail.message import Principal
from relay.store.audience import audiences, segments

router = resource("Exports")

TYPES = {"csv": "text/csv", "json": "application/json"}

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
    return _answer(here, Export(who.project, CONTACTS, form, segment, audience, here.clock.now()))


@router.get("/audiences/export")
async def export_audiences(here: Core, who: Owner, form: Form = "json") -> Any:
    """Export every audience with the addresses of its members."""
    return _list(here, who, "audiences", form)


@router.get("/audiences/{audience_id}/export")
async def export_audience(here: Core, who: Owner, audience_id: str, form: Form = "csv") -> Any:
    """Export the contacts of an audience."""
    return await export_contacts(here, who, form, None, audience_id)


@router.get("/segments/export")
async def export_segments(here: Core, who: Owner, form: Form = "json") -> Any:
    """Export the definitions of all segments."""
    return _list(here, who, "segments", form)


@router.get("/subscriptions/export")
async def export_subscriptions(here: Core, who: Owner, form: Form = "csv") -> Any:
    """Export what everybody said of every topic."""
    return _list(here, who, "subscriptions", form)


@router.get("/suppressions/export")
async def export_suppressions(here: Core, who: Owner, form: Form = "csv") -> Any:
    """Export every suppressed address with its evidence."""
    return _list(here, who, "suppressions", form)


def _list(here: Relay, who: Principal, kind: str, form: str) -> StreamingResponse:
    return _answer(here, Export(who.project, kind, form, now=here.clock.now()))


def _answer(here: Relay, export: Export) -> StreamingResponse:
    exporter.check()
    name = f"{export.kind}.{export.form}"
    return StreamingResponse(exporter.written(here.store, here.settings.store.url, export), media_type=TYPES[export.form],
                             headers={"Content-Disposition": f'attachment; filename="{name}"'})


async def table(columns: Sequence[str], pages: Rows) -> AsyncIterator[bytes]:
    """CSV, a piece for each page."""
    yield _csv([list(columns)])
    async for some in pages:
        yield _csv(some)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([[defused(cell) for cell in row] for row in rows])
    return buffer.getvalue().encode()
