"""Which files have pages, and the navigation. Who adds a page lists its file in ROOMS and, if it begins a room, its row in NAV.

A room's file has `ROUTES`, a tuple of visit.get(...) and visit.post(...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.dashboard import (
    audiences,
    broadcasts,
    builder,
    captured,
    contacts,
    domains,
    exports,
    forms,
    graphs,
    imports,
    keys,
    letters,
    mail,
    many,
    offered,
    people,
    preview,
    project,
    properties,
    queue,
    segments,
    signin,
    suppressing,
    suppressions,
    topics,
    webhooks,
    workflows,
)
from relay.dashboard.visit import OWNER, SENDER, Entry

if TYPE_CHECKING:
    from relay.dashboard.visit import Visit

ROOMS = (
    signin, mail, queue, captured, domains, keys, webhooks, suppressions, suppressing, people, project,
    exports, imports, many, contacts, offered, builder, segments, audiences, topics, properties, forms,
    preview, letters, broadcasts, workflows, graphs,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the navigation; `local`: only beside a capture server; `below`: the lines that stand under it while one of them is open."""

    name: str
    path: str
    may: str = OWNER
    local: bool = False
    below: tuple[Row, ...] = ()


NAV: tuple[Row, ...] = (
    Row("Contacts", "/dashboard/contacts", below=(
        Row("People", "/dashboard/contacts"), Row("Imports", "/dashboard/contacts/imports"), Row("Acts", "/dashboard/contacts/acts"),
        Row("Audiences", "/dashboard/audiences"), Row("Topics", "/dashboard/topics"),
        Row("Properties", "/dashboard/properties"), Row("Forms", "/dashboard/forms"),
    )),
    Row("Segments", "/dashboard/segments"),
    Row("Broadcasts", "/dashboard/broadcasts"),
    Row("Templates", "/dashboard/templates"),
    Row("Workflows", "/dashboard/workflows"),
    Row("Mail", "/dashboard/mail", SENDER),
    Row("Captured", "/dashboard/captured", local=True),
    Row("Queue", "/dashboard/queue"),
    Row("Settings", "/dashboard/settings/domains", below=(
        Row("Domains", "/dashboard/settings/domains"), Row("Keys", "/dashboard/settings/keys"), Row("Webhooks", "/dashboard/settings/webhooks"),
        Row("Suppressions", "/dashboard/settings/suppressions"), Row("Rules", "/dashboard/settings/rules"),
        Row("Users", "/dashboard/settings/users"), Row("Project", "/dashboard/settings/project"),
    )),
)


def entries() -> list[Entry]:
    """Every page of every room."""
    return [entry for room in ROOMS for entry in room.ROUTES]


def navigation(visit: Visit, local: bool) -> list[dict[str, Any]]:
    """The lines that the visitor may follow, `open` the one he is in."""
    return [_line(row, visit) for row in NAV if (local or not row.local) and _may(row, visit)]


def _may(row: Row, visit: Visit) -> bool:
    return row.local or visit.owner or (row.may == SENDER and visit.who is not None)


def _line(row: Row, visit: Visit) -> dict[str, Any]:
    below = [_line(each, visit) for each in row.below]
    for each in below:  # of two that lead here, the one that leads further
        each["open"] = each["open"] and not any(other["open"] and len(other["path"]) > len(each["path"]) for other in below)
    path = visit.request.url.path
    opened = path == row.path or path.startswith(f"{row.path}/") or any(each["open"] for each in below)
    return {"name": row.name, "path": row.path, "open": opened, "below": below}
