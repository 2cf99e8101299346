"""Acts on lists of people: import one, see how far it is, take it back, and make an exported project anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from relay.audience import columns, restore, values
from relay.audience.contacts import By
from relay.audience.imports import Imports, Order
from relay.audience.reading import FILE, JSON
from relay.audience.table import NOTHING
from relay.clock import iso
from relay.consent import Act
from relay.control import Control
from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.store import projects, secrets
from relay.store.audience import audiences, imports, segments
from relay.store.audience.imports import Import
from relay.store.audience.taking import Plan
from relay.store.engine import JOBS

PATIENCE = 10.0  # seconds that one question waits for news
_FILE = re.compile(r"[0-9a-f]{32}")


async def take_in(control: Control, file: str, name: str, project: str = projects.DEFAULT, update: bool = True, audience: str = "", segment: str = "",
                  tags: Sequence[str] = (), tell: bool = False, look: bool = True, preview: bool = False,
                  mapping: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """The import that has begun, as `show` gives it, or what it would do.

    file      in data_dir/imports, put there by whoever asks; 32 hexadecimal digits
    name      what its owner calls it; .json means JSON
    tell      whether each contact's change is an event
    look      whether domains are looked up
    mapping   what columns mean where their names do not say it, as relay.audience.columns has it
    """
    owner, mine = await control.store.read(projects.by_name, project), _imports(control)
    if not _FILE.fullmatch(file) or not (mine.directory / file).is_file():
        raise Invalid("file", "there is no such file in data_dir/imports")
    plan = Plan(update, await _audience(control, owner.id, audience), await _segment(control, owner.id, segment), tell)
    form = JSON if name.lower().endswith(".json") else FILE
    order = Order(owner.id, file, name, form, plan, tuple(values.tags(list(tags))), {"source": "cli"}, look, columns.told(mapping))
    if preview:
        return await mine.preview(order)
    async with mine.opened(order):  # what cannot be read at all is told at once
        pass
    return shown((await mine.start(order)).job)


async def show(control: Control, number: str, project: str = projects.DEFAULT, wait: float = 0.0) -> dict[str, Any]:
    """How far an import is, at once or when up to `wait` seconds have passed or it is over."""
    owner, found = await _found(control, number, project)
    work = _imports(control).at_work.get(found.id)
    if work is not None and work.task is not None and wait > 0:
        await asyncio.wait({work.task}, timeout=min(wait, PATIENCE))
    return shown(await control.store.read(imports.get, owner, found.id))


async def errors(control: Control, number: str, project: str = projects.DEFAULT, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """The next rows that could not be taken."""
    _, found = await _found(control, number, project)
    faults = await control.store.read(imports.faults, found.id, after, max(1, min(limit, 1_000)))
    return [{"row": each.row, "email": each.email, "error": each.error} for each in faults]


async def undo(control: Control, number: str, project: str = projects.DEFAULT) -> dict[str, int]:
    """What went with an import that is taken back."""
    owner, found = await _found(control, number, project)
    act = Act("cli", at=control.clock.now())
    held = tuple(secrets.ensure(control.store.data_dir, control.settings.secret_key, control.store.dialect != "sqlite"))
    gone = await _imports(control).undo(owner, found.id, By(owner, act, control.maker, held))
    control.changed("suppressions")
    return gone


async def rows(control: Control, kind: str, rows: Sequence[Mapping[str, Any]], known: Mapping[str, str], project: str = projects.DEFAULT) -> dict[str, str]:
    """Some rows of an exported list of another kind than contacts, made again; gives what old ids are now."""
    if len(rows) > restore.ROWS:
        raise Invalid("rows", f"at most {restore.ROWS} rows at once")
    owner = await control.store.read(projects.by_name, project)
    found = await control.store.write(restore.put, owner.id, kind, rows, known, control.maker, control.clock.now(), lane=JOBS)
    control.changed("suppressions")
    return found


def shown(found: Import) -> dict[str, Any]:
    return {"id": found.public_id, "status": found.state, **found.figures, "reason": found.reason, "created_at": iso(found.created_at),
            "finished_at": iso(found.finished_at)}


def _imports(control: Control) -> Imports:
    if control.imports is None:
        raise Conflict("this process takes no imports")
    return control.imports


async def _found(control: Control, number: str, project: str) -> tuple[int, Import]:
    owner = await control.store.read(projects.by_name, project)
    internal = ids.internal(number, "imp")
    if internal is None:
        raise NotFound("Import not found")
    return owner.id, await control.store.read(imports.get, owner.id, internal)


async def _audience(control: Control, project: int, public: str) -> int | None:
    number = ids.internal(public, "aud")
    if public and number is None:
        raise Invalid("audience", "audience is an id such as aud_...; GET /audiences lists them")
    return None if number is None else (await control.store.read(audiences.get, project, number)).id


async def _segment(control: Control, project: int, public: str) -> int | None:
    number = ids.internal(public, "seg")
    if public and number is None:
        raise Invalid("segment", "segment is an id such as seg_...; GET /segments lists them")
    if number is None:
        return None
    found = await control.store.read(segments.get, project, number)
    if found.rules is not None:
        raise Conflict("the members of a dynamic segment follow from its rules")
    return found.id
