"""/contacts/import: many contacts at once, from a CSV file (multipart) or as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from relay.api.contacts import SLICE, by, done
from relay.api.core import Core, Json, Owner, Relay, known
from relay.api.exports import table
from relay.audience import contacts as acts
from relay.audience import values
from relay.audience.imports import Figures, Importing, Row, Wish, definitions, of_lines, of_objects
from relay.audience.table import lines
from relay.clock import iso
from relay.errors import Conflict, Defer, Invalid, Malformed
from relay.mail.message import Principal
from relay.mail.reply import Reply
from relay.store.audience import audiences, imports, segments
from relay.store.audience.imports import Fault, Import
from relay.store.engine import JOBS

router = APIRouter(tags=["Contacts"])

PATIENCE = 25.0  # seconds a request waits for its import; clients give up at 30
ROWS = 10_000  # of a JSON request
AT_ONCE = 4  # imports of this process

_AT_WORK: set[asyncio.Task[None]] = set()  # the loop holds tasks weakly
_BUSY = Reply(451, "4.3.2", "too many imports are running, try again later")


@router.post("/contacts/import")
async def import_contacts(
    here: Core, who: Owner, request: Request,
    preview: Annotated[bool, Query(description="Only say what would happen")] = False,
) -> Any:
    """Import contacts: the field `file` of a form, or `{"contacts": [...], "on_existing": "skip"|"update"}`. 202 when it takes longer than a request may."""
    if len(_AT_WORK) >= AT_ONCE:
        raise Defer(_BUSY)
    form = request.headers.get("content-type", "").startswith("multipart/form-data")
    given, source, mapping = await (_file(request) if form else _json(request))
    typed = await here.store.read(definitions, who.project)
    rows: Iterable[Row | Fault] = of_lines(source, typed) if form else of_objects(source, typed)
    number, wish = here.maker.next(), await _wish(here, who, given, form)
    work = Importing(here.store, here.control.resolver, by(here, who, request, "import"), wish, number)
    if preview:
        return {**await work.preview(rows), "mapping": mapping}
    await here.store.write(imports.add, Import(number, who.project, imports.RUNNING, Figures().shown(), here.clock.now(), None))
    task = asyncio.create_task(work.run(rows), name="import")
    _AT_WORK.add(task)
    task.add_done_callback(_AT_WORK.discard)
    finished, _ = await asyncio.wait({task}, timeout=PATIENCE)
    done(here, ())
    return Json(_answer(work, form), 200 if finished else 202)


async def _file(request: Request) -> tuple[dict[str, Any], Any, dict[str, str]]:
    """The other fields of a form, the rows of its file, and what its columns mean."""
    form = await request.form(max_files=1, max_fields=20)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise Invalid("file", "the form has no field file with a CSV file")
    mapping, rows = await asyncio.to_thread(lines, file.file)
    return {name: value for name, value in form.items() if isinstance(value, str)}, rows, mapping


async def _json(request: Request) -> tuple[dict[str, Any], Any, dict[str, str]]:
    try:
        given = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise Malformed from None
    found = given.get("contacts") if isinstance(given, dict) else None
    if not isinstance(found, list) or not 0 < len(found) <= ROWS or not all(isinstance(each, dict) for each in found):
        raise Invalid("contacts", f"contacts is a list of 1 to {ROWS} contacts")
    spelled = {"firstName": "first_name", "lastName": "last_name", "customFields": "properties", "custom_fields": "properties"}
    return given, [{spelled.get(name, name): value for name, value in each.items()} for each in found], {}


async def _wish(here: Relay, who: Principal, given: dict[str, Any], form: bool) -> Wish:
    existing = given.get("on_existing", "update" if form else "skip")
    if existing not in ("skip", "update"):
        raise Invalid("on_existing", "on_existing is skip or update")
    tags = given.get("tags") or ()
    if isinstance(tags, str):
        tags = [tag.strip() for tag in tags.split(",") if tag.strip()]
    audience = given.get("audience_id") and (await here.store.read(audiences.get, who.project, known("aud", str(given["audience_id"]), "Audience"))).id
    segment = given.get("segment_id") and await here.store.read(segments.get, who.project, known("seg", str(given["segment_id"]), "Segment"))
    if segment and segment.rules is not None:
        raise Conflict("the members of a dynamic segment follow from its rules")
    return Wish(existing == "update", audience or None, segment.id if segment else None, tuple(values.tags(list(tags))))


def _answer(work: Importing, form: bool) -> dict[str, Any]:
    told = work.figures
    errors: Any = told.errors if form else [f"{each.email}: {each.error}" for each in work.faults]
    number = Import(work.number, 0, "", {}, 0, None).public_id
    return {"id": number, "imported": told.imported, "updated": told.updated, "skipped": told.skipped, "errors": errors}


@router.get("/contacts/imports/{import_id}")
async def get_import(here: Core, who: Owner, import_id: str) -> Any:
    """How far an import is."""
    found = await here.store.read(imports.get, who.project, known("imp", import_id, "Import"))
    return {"id": found.public_id, "status": found.state, **found.figures, "created_at": iso(found.created_at), "finished_at": iso(found.finished_at)}


@router.get("/contacts/imports/{import_id}/errors")
async def get_errors(here: Core, who: Owner, import_id: str) -> Any:
    """The rows that could not be taken, as CSV."""
    found = await here.store.read(imports.get, who.project, known("imp", import_id, "Import"))

    async def pages() -> Any:
        after = 0
        while some := await here.store.read(imports.faults, found.id, after, 1_000):
            after = some[-1].row
            yield [[str(each.row), each.email, each.error] for each in some]

    return StreamingResponse(table(["row", "email", "error"], pages()), media_type="text/csv")


@router.post("/contacts/imports/{import_id}/undo")
async def undo_import(here: Core, who: Owner, request: Request, import_id: str) -> Any:
    """Delete the contacts that an import made; those it updated stay as they are."""
    found = await here.store.read(imports.get, who.project, known("imp", import_id, "Import"))
    if found.state == imports.RUNNING:
        raise Conflict("the import is still running")
    total, one = 0, by(here, who, request)
    while some := await here.store.read(imports.made, who.project, found.id, SLICE):
        total += await here.store.write(acts.erase, some, one, lane=JOBS)
    await here.store.write(imports.end, found.id, imports.UNDONE, here.clock.now())
    done(here, ())
    return {"id": found.public_id, "deleted": total}
