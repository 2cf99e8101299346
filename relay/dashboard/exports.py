"""Exports: the API's files, streamed to the browser as they are; `format` csv or json."""

from __future__ import annotations

from starlette.responses import Response

from relay.api import exports
from relay.dashboard.visit import Visit, get
from relay.errors import Invalid


def _form(visit: Visit, usual: str) -> str:
    form = visit.asked("format") or usual
    if form not in exports.TYPES:
        raise Invalid("format", "format is csv or json")
    return form


async def contacts(visit: Visit) -> Response:
    """Everybody, or the members of `segment`."""
    return await exports.export_contacts(visit.here, visit.who, _form(visit, "csv"), visit.asked("segment") or None, None)


async def audience(visit: Visit) -> Response:
    return await exports.export_audience(visit.here, visit.who, visit.number("audience_id"), _form(visit, "csv"))


async def audiences(visit: Visit) -> Response:
    return await exports.export_audiences(visit.here, visit.who, _form(visit, "json"))


async def segments(visit: Visit) -> Response:
    return await exports.export_segments(visit.here, visit.who, _form(visit, "json"))


async def subscriptions(visit: Visit) -> Response:
    return await exports.export_subscriptions(visit.here, visit.who, _form(visit, "csv"))


async def suppressions(visit: Visit) -> Response:
    return await exports.export_suppressions(visit.here, visit.who, _form(visit, "csv"))


ROUTES = (
    get("/contacts/export", contacts), get("/audiences/export", audiences), get("/audiences/{audience_id}/export", audience), get("/segments/export", segments),
    get("/topics/export", subscriptions), get("/settings/suppressions/export", suppressions),
)
