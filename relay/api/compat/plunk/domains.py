"""/domains in the Plunk dialect: sending domains of the key's project, which stands in the path too, and their proof by DNS. And /health, for monitors."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from relay.api.core import Core, Input, Owner, known, resource
from relay.control import domains
from relay.errors import NotFound
from relay.mail import ids
from relay.mail.message import Principal

router = resource("Domains")

VERIFIED = "verified"


class DomainInput(Input):
    domain: str = Field(min_length=1, max_length=255)
    project_id: str | None = None


@router.get("/health")
async def health() -> Any:
    """Whether requests are answered; /readyz says whether mail is taken."""
    return {"status": "ok"}


@router.get("/domains/project/{project_id}")
async def list_domains(here: Core, who: Owner, project_id: str) -> Any:
    """The project's domains."""
    _own(who, project_id)
    return [_shown(each, who) for each in await here.act(who, domains.every)]


@router.post("/domains", status_code=201)
async def add_domain(here: Core, who: Owner, given: DomainInput) -> Any:
    """Add a domain; `records` are to be published."""
    if given.project_id is not None:
        _own(who, given.project_id)
    return _shown(await here.act(who, domains.add, given.domain), who)


@router.get("/domains/{domain_id}/verify")
async def verify_domain(here: Core, who: Owner, domain_id: str) -> Any:
    """Look at DNS now."""
    known("dom", domain_id, "Domain")
    try:
        found = await here.act(who, domains.verify, domain_id)
    except NotFound:
        raise NotFound("Domain not found") from None
    here.occurred()
    return {**_shown(found, who), "status": found["status"]}


@router.delete("/domains/{domain_id}", status_code=204)
async def remove_domain(here: Core, who: Owner, domain_id: str) -> Response:
    """Remove a domain and its keys."""
    known("dom", domain_id, "Domain")
    try:
        await here.act(who, domains.remove, domain_id)
    except NotFound:
        raise NotFound("Domain not found") from None
    return Response(status_code=204)


def _own(who: Principal, project_id: str) -> None:
    """Raises NotFound for a project that is not the key's."""
    if known("prj", project_id, "Project") != who.project:
        raise NotFound("Project not found")


def _shown(domain: dict[str, Any], who: Principal) -> dict[str, Any]:
    return {"id": domain["id"], "domain": domain["name"], "verified": domain["status"] == VERIFIED, "records": domain["dns_records"],
            "projectId": ids.public("prj", who.project), "createdAt": domain["created_at"]}
