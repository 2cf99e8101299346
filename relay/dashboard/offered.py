"""Names that fields offer while one types: tags, properties and events that the project has, as far back as a short look goes. A part of pages."""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

from relay.api import properties
from relay.dashboard import view
from relay.dashboard.visit import Visit, get
from relay.store import namings
from relay.store.audience import walks

MOST = 200  # names of a kind
OURS = ("email.", "contact.", "segment.", "import.", "broadcast.", "workflow.", "domain.", "suppression.")  # events that forms have words for, or no use


async def names(visit: Visit) -> Response:
    """Lists for fields with list="names-tags", "names-properties", "names-events"."""
    read, project = visit.here.store.read, visit.who.project  # type: ignore[union-attr]
    tags, used = await read(walks.named, project)
    defined = [each["name"] for each in (await properties.list_properties(visit.here, visit.who))["properties"]]
    events = [name for name in await read(namings.counts, project) if not name.startswith(OURS)]
    found = {"tags": tags, "properties": {*used, *defined}, "events": events}
    return HTMLResponse(view.render("segments/names.html", {"offered": {kind: sorted(each)[:MOST] for kind, each in found.items()}}))


ROUTES = (get("/segments/names", names),)
