"""/contacts/import: many contacts at once, from a file (multipart: CSV, or a ZIP of several) or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from relay.api.contacts import by
from relay.api.core import Core, Json, Owner, Paging, Relay, known, listed, resource
from relay.api.exports import table
from relay.audience import columns, uploads, values
from relay.audience.imports import Imports, Order, Work
from relay.audience.reading import FILE, JSON
from relay.clock import iso
from relay.errors import Conflict, Invalid, Malformed
from relay.mail.message import Principal
from relay.store.audience import audiences, imports, segments
from relay.store.audience.imports import Import
from relay.store.audience.taking import Plan

router = resource("Contacts")

ERRORS = 1_000  # rows of a page of errors

NO_JSON = "the body is not JSON; a file goes into the field file of a form (multipart/form-data)"

@router.post("/contacts/import")
async def import_contacts(
    here: Core, who: Owner, request: Request,
    preview: Annotated[bool, Query(description="Only say what would happen")] = False,
) -> Any:
    """Import contacts: the field `file` of a form, with `mapping`, JSON, where the names of its columns do not say what they are; or
    `{"contacts": [...], "on_existing": "skip"|"update"}`. 202 when it takes longer than a request may."""
    return await _import(here, who, request, preview)


@router.post("/contacts/import/preview")
async def preview_import(here: Core, who: Owner, request: Request) -> Any:
    """What an import would do; the same bodies."""
    return await _import(here, who, request, True)


async def _import(here: Relay, who: Principal, request: Request, preview: bool) -> Any:
    form = FILE if request.headers.get("content-type", "").startswith("multipart/form-data") else JSON
    mine: Imports = here.control.imports
    async with _received(mine, request, form) as (file, name, given):
        order = Order(who.project, file.name, name, form)
        order = replace(order, mapping=_mapping(given))
        try:
            async with mine.opened(order) as source:  # what cannot be read at all is told at once
                given = given or source.given
        except Malformed:
            raise Malformed(NO_JSON) from None
        order = await ordered(here, who, request, order, given)
        if preview:
            return await mine.preview(order)
        work = await mine.start(order)
    assert work.task is not None
    finished, _ = await asyncio.wait({work.task}, timeout=here.settings.http.patience)
    return Json(_answer(work, form), 200 if finished else 202)


async def ordered(here: Relay, who: Principal, request: Request, order: Order, given: dict[str, Any]) -> Order:
    """The order with what its fields say: on_existing, audience_id, segment_id, tags, events; and who gave it. Raises Invalid, NotFound, Conflict."""
    act = by(here, who, request, "import").act
    told = {"client": act.client, "agent": act.agent[:200], **act.more}
    return replace(order, plan=await _plan(here, who, given, order.form), tags=_tags(given), source=told)


@contextlib.asynccontextmanager
async def _received(mine: Imports, request: Request, form: str) -> AsyncIterator[tuple[Path, str, dict[str, Any]]]:
    """The upload as a file in the directory of imports, its name, and the other fields of a form; the file goes unless an import has begun with it."""
    file = mine.place() / secrets.token_hex(16)
    began = set(mine.at_work)
    try:
        if form == JSON:
            await uploads.received(request.stream(), file)
            yield file, "contacts.json", {}
        else:
            async with request.form(max_files=1, max_fields=20) as fields:
                upload = fields.get("file")
                if not isinstance(upload, UploadFile):
                    raise Invalid("file", "the form has no field file with a CSV file")
                await asyncio.to_thread(uploads.copied, upload.file, file)
                yield file, upload.filename or "contacts.csv", {name: value for name, value in fields.items() if isinstance(value, str)}
    finally:
        if not any(work.job.job.get("file") == file.name for number, work in mine.at_work.items() if number not in began):
            file.unlink(missing_ok=True)


async def _plan(here: Relay, who: Principal, given: dict[str, Any], form: str) -> Plan:
    existing = given.get("on_existing") or ("update" if form == FILE else "skip")
    if existing not in ("skip", "update"):
        raise Invalid("on_existing", "on_existing is skip or update")
    tell = given.get("events", False)
    if tell not in (True, False, "true", "false"):
        raise Invalid("events", "events is true or false")
    audience = given.get("audience_id") and (await here.store.read(audiences.get, who.project, known("aud", str(given["audience_id"]), "Audience"))).id
    segment = given.get("segment_id") and await here.store.read(segments.get, who.project, known("seg", str(given["segment_id"]), "Segment"))
    if segment and segment.rules is not None:
        raise Conflict("the members of a dynamic segment follow from its rules")
    return Plan(existing == "update", audience or None, segment.id if segment else None, tell in (True, "true"))


def _mapping(given: dict[str, Any]) -> dict[str, str]:
    """The field `mapping` of a form: JSON with what columns mean, by their names."""
    try:
        return columns.told(orjson.loads(given["mapping"])) if given.get("mapping") else {}
    except orjson.JSONDecodeError:
        raise Invalid("mapping", 'mapping is JSON such as {"E-Mail": "email", "Plan": "properties.plan", "Notes": ""}') from None


def _tags(given: dict[str, Any]) -> tuple[str, ...]:
    tags = given.get("tags") or []
    if isinstance(tags, str):
        tags = [tag.strip() for tag in tags.split(",") if tag.strip()]
    return tuple(values.tags(tags))


def _answer(work: Work, form: str) -> dict[str, Any]:
    told = work.job.figures
    errors: Any = told["errors"] if form == FILE else [f"{each.email}: {each.error}" for each in work.faults]
    return {"id": work.job.public_id, "imported": told["imported"], "updated": told["updated"], "skipped": told["skipped"], "errors": errors}


@router.get("/contacts/imports")
async def list_imports(here: Core, who: Owner, page: Paging) -> Any:
    """List imports, newest first."""
    return listed("imports", await here.store.read(imports.paged, who.project, page), page, shown)


@router.get("/contacts/imports/{import_id}")
async def get_import(here: Core, who: Owner, import_id: str) -> Any:
    """How far an import is: running, completed, failed (with the reason) or undone."""
    return shown(await here.store.read(imports.get, who.project, known("imp", import_id, "Import")))


@router.get("/contacts/imports/{import_id}/errors")
async def get_errors(here: Core, who: Owner, import_id: str) -> Any:
    """The rows that could not be taken, as CSV."""
    found = await here.store.read(imports.get, who.project, known("imp", import_id, "Import"))

    async def pages() -> Any:
        after = 0
        while some := await here.store.read(imports.faults, found.id, after, ERRORS):
            after = some[-1].row
            yield [[str(each.row), each.email, each.error] for each in some]

    headers = {"Content-Disposition": f'attachment; filename="{found.public_id}-errors.csv"'}
    return StreamingResponse(table(["row", "email", "error"], pages()), media_type="text/csv", headers=headers)


@router.post("/contacts/imports/{import_id}/undo")
async def undo_import(here: Core, who: Owner, request: Request, import_id: str) -> Any:
    """Take an import back: contacts that it made go, those it changed are as before unless somebody changed them since, and so are targets and suppressions."""
    number = known("imp", import_id, "Import")
    gone = await here.control.imports.undo(who.project, number, by(here, who, request))
    here.control.changed("suppressions")
    return {"id": imports.public(number), **gone}


def shown(found: Import) -> dict[str, Any]:
    return {"id": found.public_id, "name": found.job.get("name"), "status": found.state, **found.figures, **({"reason": found.reason} if found.reason else {}),
            "created_at": iso(found.created_at), "finished_at": iso(found.finished_at)}
