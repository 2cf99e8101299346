"""/contacts/import in the Plunk dialect: a CSV file, always taken in behind the answer.

Names of columns are read in lower case: `email`, `subscribed`, and every other one is a key of data. A cell that says true, yes, false or no is a boolean, one
that is a decimal number a number, unless the key has a defined type. The file is written anew as the native import reads it, a row for each of its rows, so
that row numbers stay true; whoever is unsubscribed stays so, whatever the file says.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from relay.api.compat.plunk.data import RESERVED
from relay.api.compat.plunk.errors import Bad
from relay.api.contacts import by
from relay.api.core import Core, Json, Owner, known, resource
from relay.audience import uploads, values
from relay.audience.cells import defused
from relay.audience.imports import Order
from relay.clock import iso
from relay.errors import Invalid
from relay.store.audience import imports, properties
from relay.store.audience.properties import Property
from relay.store.audience.taking import Plan

router = resource("Contacts")

LARGEST = 5_000_000  # octets of a file
ERRORS = 100  # rows that an answer names

STATES = {imports.RUNNING: "active", imports.COMPLETED: "completed", imports.UNDONE: "completed", imports.FAILED: "failed"}
WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False}

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


@router.post("/contacts/import", status_code=202, openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}}}}})
async def import_contacts(here: Core, who: Owner, request: Request) -> Any:
    """Import the CSV file in the field `file`; existing contacts are updated."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Bad("file", "send a form with the field file, a CSV file")
    async with request.form(max_files=1, max_fields=5) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile) or not (upload.filename or "").lower().endswith(".csv"):
            raise Bad("file", "the form has no field file with a CSV file")
        octets = await upload.read(LARGEST + 1)
    if len(octets) > LARGEST:
        raise HTTPException(413, f"a file has at most {LARGEST // 1_000_000} MB")
    definitions = await here.store.read(properties.of, who.project)
    file = here.control.imports.place() / secrets.token_hex(16)
    await asyncio.to_thread(_written, file, octets, definitions)
    act = by(here, who, request, "import").act
    order = Order(who.project, file.name, "contacts.csv", plan=Plan(update=True), source={"client": act.client, "agent": act.agent[:200], **act.more})
    try:
        work = await here.control.imports.start(order)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return Json({"message": "Import started", "jobId": work.job.public_id}, 202)


@router.get("/contacts/import/{job_id}")
async def get_import(here: Core, who: Owner, job_id: str) -> Any:
    """How far an import is; once it is over with its result."""
    found = await here.store.read(imports.get, who.project, known("imp", job_id, "Job"))
    ended, told = found.state != imports.RUNNING, found.figures
    result = None
    if ended:
        faults = await here.store.read(imports.faults, found.id, 0, ERRORS)
        result = {"totalRows": told["total"], "successCount": told["imported"] + told["updated"], "createdCount": told["imported"],
                  "updatedCount": told["updated"], "failureCount": told["errors"],
                  "errors": [{"row": each.row, "email": each.email, "error": _worded(each.error)} for each in faults]}
    return {"id": found.public_id, "jobId": found.public_id, "status": STATES[found.state], "progress": 100 if ended else 0, "result": result,
            **({"failedReason": found.reason} if found.reason else {}), "createdAt": iso(found.created_at), "finishedAt": iso(found.finished_at)}


def _worded(error: str) -> str:
    """An error of a row, where Plunk has words for it."""
    return error if "required" in error or "address" not in error else f"Invalid email format: {error}"


def _written(file: Path, octets: bytes, definitions: Mapping[str, Property]) -> None:
    """The file in the columns of the native import; raises Bad for what has no column email, Defer when the disk takes nothing."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_rows(octets, definitions))
    uploads.copied(io.BytesIO(text.getvalue().encode("utf-8", "replace")), file)


def _rows(octets: bytes, definitions: Mapping[str, Property]) -> Iterator[list[str]]:
    try:
        decoded = octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        decoded = octets.decode("cp1252", "replace")
    lines = csv.reader(io.StringIO(decoded.replace("\0", ""), newline=""))
    try:
        names = [name.strip().lower() for name in next(lines, [])]
        if "email" not in names:
            raise Bad("file", "the file has no column email")
        yield ["email", "unsubscribed", "properties"]
        for cells in lines:
            yield _row(dict(zip(names, (cell.strip() for cell in cells), strict=False)), definitions)
    except csv.Error as error:
        raise Bad("file", f"the file is no CSV file: {error}") from None


def _row(cells: Mapping[str, str], definitions: Mapping[str, Property]) -> list[str]:
    if not any(cells.values()):
        return ["", "", ""]
    gone = cells.get("subscribed") and cells["subscribed"].lower() not in ("true", "1", "yes")
    fixed = {name.lower() for name in RESERVED}
    data = {name: _value(cell, definitions.get(name), name) for name, cell in cells.items() if cell and name and name not in fixed}
    return [defused(cells.get("email", "").lower()), "true" if gone else "", orjson.dumps(data).decode() if data else ""]


def _value(cell: str, definition: Property | None, name: str) -> Any:
    """What a cell means. One that is not of its key's type stays a text, which the import then refuses by its row."""
    if definition is not None:
        try:
            return values.cell(cell, definition, name)
        except Invalid:
            return cell
    if _NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    return WORDS.get(cell.lower(), cell)
