"""Settings, project: the name, language and postal address that footers and pages show, and how much was sent."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import project
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError

PATH = "/dashboard/settings/project"
LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español", "da": "Dansk"}


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    found = await project.get_project(visit.here, visit.who)
    try:
        usage = await project.get_usage(visit.here, visit.who, visit.asked("month") or None)
    except RelayError as wrong:
        error, usage = error or wrong, await project.get_usage(visit.here, visit.who)
    languages = [(each, LANGUAGES.get(each, each)) for each in project.LANGUAGES]
    return visit.show("settings/project.html", error=error, project=found, usage=usage, languages=languages)


async def change(visit: Visit) -> Response:
    try:
        given = project.ProjectInput(name=visit.given("name"), language=visit.given("language"), postal_address=visit.given("postal_address"))
        await project.change_project(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(PATH, "Saved.")


ROUTES = (get("/settings/project", one), post("/settings/project", change))
