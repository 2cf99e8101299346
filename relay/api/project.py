"""/project and /usage: what footer and pages say of the sender, and how much was sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from relay.api.core import Core, Input, Owner, resource
from relay.clock import iso
from relay.errors import Invalid
from relay.policy import LANGUAGES
from relay.store import projects, usage
from relay.store.projects import Project

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

router = resource("Project")


class ProjectInput(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=128)
    language: str | None = None
    postal_address: str | None = Field(None, max_length=500)


@router.get("/project")
async def get_project(here: Core, who: Owner) -> Any:
    """The project of this key."""
    return _shown(await here.store.read(projects.get, who.project))


@router.patch("/project")
async def change_project(here: Core, who: Owner, given: ProjectInput) -> Any:
    """Set the name, language and postal address that footers and pages show."""
    if given.language is not None and given.language not in LANGUAGES:
        raise Invalid("language", f"language is one of {', '.join(LANGUAGES)}")
    changes = {"title": given.name, "language": given.language, "postal_address": given.postal_address}
    settings = {name: value for name, value in changes.items() if value is not None}
    project = await here.store.write(projects.configure, who.project, settings)
    here.control.changed("projects")
    return _shown(project)


def _shown(project: Project) -> dict[str, Any]:
    settings = project.settings
    return {"id": project.public_id, "name": settings.get("title") or project.name, "slug": project.name, "language": settings.get("language", "en"),
            "postal_address": settings.get("postal_address", ""), "created_at": iso(project.created_at)}


@router.get("/usage")
async def get_usage(here: Core, who: Owner, month: Annotated[str | None, Query(description="2026-03; this month without one")] = None) -> Any:
    """Emails sent in a month (UTC), one for each recipient, by domain of From."""
    month = month or datetime.fromtimestamp(here.clock.now(), UTC).strftime("%Y-%m")
    if not _MONTH.fullmatch(month):
        raise Invalid("month", "month is YYYY-MM")
    by_domain = await here.store.read(usage.of, who.project, month)
    return {"month": month, "sent": sum(by_domain.values()), "by_domain": by_domain}
