"""Imports: a file of contacts goes up, its columns get their meaning, a preview says what would happen, then it starts, and its page shows how far it is;
errors as a file; undo.

Between preview and start the file waits in the directory of imports, where what nobody starts is swept after an hour; the form carries its name, signed, so
that nobody starts a file of another project.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.responses import Response

from relay.api import imports
from relay.api.core import known
from relay.audience import uploads
from relay.audience.imports import Imports, Order
from relay.dashboard import columns
from relay.dashboard.columns import Column
from relay.dashboard.visit import Visit, get, post
from relay.errors import Expired, Invalid, NotFound, RelayError
from relay.mail.tokens import pack, unpack
from relay.store.audience import audiences, segments
from relay.store.audience import imports as stored
from relay.store.pages import Page

OCTETS = 200_000_000  # of a file: some millions of contacts; more goes over the API
WAITS = 3_000.0  # seconds from preview to start; below the hour after which files are swept
SHOWN = 20  # rows with errors on the page; the file has them all
NAME = 200  # octets of a file's name
CHOICES = Page(1, 200)  # audiences and segments to put the contacts into
GONE = "the file is no longer there; choose it once more"
FIELDS = ("on_existing", "audience_id", "segment_id", "tags")


async def new(visit: Visit, error: RelayError | None = None) -> Response:
    """The form."""
    read, project = visit.here.store.read, visit.who.project
    groups = [(each.public_id, each.name) for each in (await read(audiences.paged, project, CHOICES)).rows]
    lists = [(each.public_id, each.name) for each in (await read(segments.paged_list, project, CHOICES)).rows if each.rules is None]
    return visit.show("contacts/import.html", error=error, audiences=groups, segments=lists)


async def every(visit: Visit) -> Response:
    return visit.show("contacts/imports.html", **await imports.list_imports(visit.here, visit.who, visit.page()))


async def upload(visit: Visit) -> Response:
    """The file, kept for a while, and what its columns are taken for. What is wrong with it is said beside the form."""
    mine: Imports = visit.here.control.imports
    given = visit.form.get("file")
    file = mine.place() / secrets.token_hex(16)
    try:
        if not isinstance(given, UploadFile) or not given.filename:
            raise Invalid("file", "choose a file: CSV, or a ZIP of several")
        await asyncio.to_thread(uploads.copied, given.file, file)
        order = await _ordered(visit, file.name, given.filename)
        return await _preview(visit, order, await columns.found(visit, mine.file(order), order.name))
    except RelayError as error:
        file.unlink(missing_ok=True)
        return await new(visit, error)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


async def preview(visit: Visit) -> Response:
    """The same once more, with columns that mean what the form says."""
    try:
        order, chosen = await _chosen(visit)
    except RelayError as error:
        return await new(visit, error)
    return await _preview(visit, order, chosen)


async def start(visit: Visit) -> Response:
    """The import, at work; its page shows the rest. A second press leads to the same import."""
    mine: Imports = visit.here.control.imports
    try:
        order, chosen = await _chosen(visit)
        for number, work in mine.at_work.items():
            if work.job.job.get("file") == order.file:
                return visit.go(f"/dashboard/contacts/imports/{stored.public(number)}")
    except RelayError as error:
        return await new(visit, error)
    try:
        rows = visit.given("rows")
        order = replace(order, mapping=columns.mapping(chosen), rows=int(rows) if rows.isdecimal() and len(rows) < 12 else 0)
        async with mine.opened(order):
            pass
        await columns.define(visit, chosen)
        work = await mine.start(order)
    except RelayError as error:
        return await _preview(visit, order, chosen, error)
    return visit.go(f"/dashboard/contacts/imports/{work.job.public_id}")


async def _preview(visit: Visit, order: Order, chosen: list[Column], error: RelayError | None = None) -> Response:
    """What the import would do, or why it cannot: no column of addresses, a property that cannot be. The file waits for the start."""
    mine: Imports = visit.here.control.imports
    told = None
    try:
        if error is None:
            told = await mine.preview(replace(order, mapping=columns.mapping(chosen)), await columns.typed(visit, chosen))
    except RelayError as wrong:
        error = wrong
    return visit.show("contacts/preview.html", error=error, told=told, name=order.name, upload=_signed(visit, order), columns=chosen, types=columns.TYPES,
                      fields={name: visit.given(name) for name in FIELDS})


async def _chosen(visit: Visit) -> tuple[Order, list[Column]]:
    """The order that the form carries on, and its columns; raises Invalid, NotFound."""
    mine: Imports = visit.here.control.imports
    order = await _ordered(visit, *_read(visit))
    if not mine.file(order).exists():
        raise Invalid("file", GONE)
    return order, await columns.found(visit, mine.file(order), order.name)


async def one(visit: Visit) -> Response:
    """How far an import is, and the first rows that could not be taken."""
    found = await visit.here.store.read(stored.get, visit.who.project, known("imp", visit.number("import_id"), "Import"))
    faults = await visit.here.store.read(stored.faults, found.id, 0, SHOWN) if found.figures.get("errors") else []
    return visit.show("contacts/imported.html", told=imports.shown(found), faults=faults, rows=max(found.job.get("rows", 0), found.figures["total"]))


async def errors(visit: Visit) -> Response:
    return await imports.get_errors(visit.here, visit.who, visit.number("import_id"))


async def undo(visit: Visit) -> Response:
    name = visit.number("import_id")
    gone = await imports.undo_import(visit.here, visit.who, visit.request, name)
    return visit.go(f"/dashboard/contacts/imports/{name}", f"Undone: {gone['deleted']:,} contacts are gone, {gone['restored']:,} are as they were.")


async def _ordered(visit: Visit, file: str, name: str) -> Order:
    """The order that the form gives for a file; raises Invalid, NotFound."""
    given = {field: visit.given(field) for field in FIELDS}
    order = await imports.ordered(visit.here, visit.who, visit.request, Order(visit.who.project, file, Path(name).name), given)
    return replace(order, source={**order.source, "by": "dashboard"})


def _signed(visit: Visit, order: Order) -> str:
    tokens = visit.house.tokens
    data = pack(order.project, bytes.fromhex(order.file) + order.name.encode("utf-8", "replace")[:NAME])
    return tokens.make("upload", data, tokens.clock.now() + WAITS)


def _read(visit: Visit) -> tuple[str, str]:
    """File and name of the upload that the form carries; raises Invalid."""
    try:
        project, data = unpack(visit.house.tokens.read("upload", visit.given("upload")))
    except (NotFound, Expired):
        raise Invalid("file", GONE) from None
    if project != visit.who.project:
        raise Invalid("file", GONE)
    return data[:16].hex(), data[16:].decode("utf-8", "replace")


ROUTES = (
    get("/contacts/import", new), post("/contacts/import", upload, body=OCTETS), post("/contacts/import/preview", preview),
    post("/contacts/import/start", start), get("/contacts/imports", every), get("/contacts/imports/{import_id}", one),
    get("/contacts/imports/{import_id}/errors", errors), post("/contacts/imports/{import_id}/undo", undo),
)
