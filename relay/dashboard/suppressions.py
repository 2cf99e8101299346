"""Settings, suppressions: who gets no mail, why, and the evidence; add one, lift one."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import suppressions
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError
from relay.store.suppressions import SEVERITY

PATH = "/dashboard/settings/suppressions"
SCOPES = (("all", "all mail"), ("marketing", "marketing only"))


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    reason, email = visit.asked("reason"), visit.asked("email")
    found = {"suppressions": [], "pagination": {"total": 0, "page": 1, "total_pages": 0}}
    try:
        found = await suppressions.list_suppressions(visit.here, visit.who, visit.page(), reason or None, email or None)
    except RelayError as wrong:
        error = error or wrong
    return visit.show("settings/suppressions.html", error=error, reason=reason, email=email, reasons=tuple(SEVERITY), scopes=SCOPES, **found)


async def add(visit: Visit) -> Response:
    try:
        given = suppressions.SuppressionInput(email=visit.given("email"), scope=visit.given("scope") or "all", note=visit.given("note"))
        await suppressions.add_suppression(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return visit.go(PATH, f"{given.email} gets no more mail.")


async def lift(visit: Visit) -> Response:
    await suppressions.remove_suppression(visit.here, visit.who, visit.given("email"))
    return visit.go(PATH, f"{visit.given('email')} may get mail again.")


ROUTES = (get("/settings/suppressions", every), post("/settings/suppressions", add), post("/settings/suppressions/lift", lift))
