"""Acts on suppressions. A change counts for mail that waits, too: the entry is read again just before each MAIL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay import bounces, consent
from relay.clock import iso
from relay.consent import Act
from relay.control import Control
from relay.errors import Invalid, NotFound
from relay.mail import address as mail_address
from relay.mail import ids
from relay.store import projects, suppressions
from relay.store.suppressions import Filter, Suppression, said

PAGE = 1000  # entries in one answer or one slice of an import
SLICE = 500  # entries removed in one transaction, so that mail gets its turn between


async def add(
    control: Control, address: str, project: str = projects.DEFAULT, reason: str = "manual", scope: str = "all", note: str = "", lasts: float = 0.0,
) -> dict[str, Any]:
    """The entry that holds for the address and scope now; `lasts` seconds until it ends by itself, 0 = it stays."""
    owner, now = await control.store.read(projects.by_name, project), control.clock.now()
    entry = suppressions.make(control.maker.next(), owner.id, address, reason, scope, {"note": note} if note else {}, now, now + lasts if lasts else None)
    new = await control.store.write(suppressions.add, entry)
    control.changed("suppressions")
    return {**shown(entry if new else await _standing(control, entry)), "added": new}


async def _standing(control: Control, entry: Suppression) -> Suppression:
    """The graver entry that was there before."""
    held = await control.store.read(suppressions.of, entry.project_id, entry.key)
    return next((each for each in held if each.scope == entry.scope), entry)


async def remove(control: Control, address: str, project: str = projects.DEFAULT, scope: str = "") -> list[dict[str, Any]]:
    """The entries that went; raises NotFound when there were none."""
    owner = await control.store.read(projects.by_name, project)
    gone = await control.store.write(suppressions.remove, owner.id, mail_address.key(address), scope)
    if not gone:
        raise NotFound(f"{address} is not suppressed in project {project}")
    control.changed("suppressions")
    return [shown(entry) for entry in gone]


async def every(control: Control, project: str = projects.DEFAULT, reason: str = "", scope: str = "", batch: str = "", rule: str = "",
                after: int = 0, limit: int = PAGE) -> dict[str, Any]:
    """A page of entries, oldest first, and `next`, the `after` of the following page or None."""
    owner = await control.store.read(projects.by_name, project)
    limit = max(1, min(limit, PAGE))
    found = await control.store.read(suppressions.page, owner.id, Filter(reason, scope, batch, rule, after=after), limit)
    return {"suppressions": [shown(entry) for entry in found], "next": found[-1].id if len(found) == limit else None}


async def take_in(control: Control, rows: Sequence[Sequence[str]], batch: str = "", project: str = projects.DEFAULT) -> dict[str, Any]:
    """One slice of an import: how many were new, and which lines were refused and why.

    rows   at most PAGE of [address, reason, scope]; empty texts mean manual and all
    batch  the import this slice belongs to, as the first slice's answer named it; `undo` takes it
    """
    if len(rows) > PAGE:
        raise Invalid("rows", f"a slice has at most {PAGE} rows")
    owner = await control.store.read(projects.by_name, project)
    batch = batch or ids.public("imp", control.maker.next())
    entries, refused = [], []
    for number, row in enumerate(rows):
        address, reason, scope = (*row, "", "", "")[:3]
        try:
            entries.append(suppressions.make(
                control.maker.next(), owner.id, address, reason or "manual", scope or "all", {"batch": batch}, control.clock.now()))
        except Invalid as error:
            refused.append({"row": number, "address": address, "error": error.text})
    added = await control.store.write(suppressions.add_many, entries, lane="jobs") if entries else 0
    control.changed("suppressions")
    return {"batch": batch, "added": added, "known": len(entries) - added, "refused": refused}


async def undo(control: Control, project: str = projects.DEFAULT, batch: str = "", reason: str = "", rule: str = "", since: float | None = None,
               until: float | None = None) -> dict[str, Any]:
    """How many entries of an import, a bounce rule or a reason in a stretch of time went.

    Raises Invalid when nothing says which, NotFound for an import that nothing is left of and for a rule that there is not.

    A time alone says too little: complaints and what people asked for themselves would go with it. Contacts whom such a bounce had unsubscribed are
    subscribed again, unless they have said anything since.
    """
    if not (batch or rule or (reason and since is not None)):
        raise Invalid("batch", "name what to undo: the import's batch, a bounce rule, or a reason and since when (a time alone would take complaints too)")
    owner = await control.store.read(projects.by_name, project)
    wanted, total = Filter(reason, batch=batch, rule=rule, since=since, until=until), 0
    act = Act("undo", at=control.clock.now())
    while gone := await control.store.write(consent.undo, owner.id, wanted, act, SLICE, lane="jobs"):
        total += gone
    if not total:
        await _there(control, owner.id, project, batch, rule)
    control.changed("suppressions")
    return {"removed": total}


async def _there(control: Control, owner: int, project: str, batch: str, rule: str) -> None:
    """Raises NotFound when the project has no entry of this import, or when no rule has this name and none had when something was suppressed by it."""
    if batch and not await control.store.read(suppressions.page, owner, Filter(batch=batch), 1):
        raise NotFound(f"nothing of an import {batch} is suppressed in project {project}; relay suppress list --json names imports, as batch")
    rules = control.rules or bounces.read(control.settings.suppress.rules)
    if rule and all(each.name != rule for each in rules.rows) and not await control.store.read(suppressions.page, owner, Filter(rule=rule), 1):
        raise NotFound(f"there is no bounce rule {rule}; relay suppress list --json and relay explain name the rule of an entry")


def shown(entry: Suppression) -> dict[str, Any]:
    return {"address": entry.address, "reason": entry.reason, "scope": entry.scope, "evidence": said(entry.evidence), "created_at": iso(entry.created_at),
            "expires_at": iso(entry.expires_at)}
