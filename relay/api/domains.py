"""/domains: where mail may come from, the DNS records to publish, what DNS shows, tracking, and DKIM rotation."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Query
from pydantic import Field

from relay.api.core import Core, Input, Owner, Relay, resource, whole
from relay.control import domains
from relay.errors import NotFound
from relay.mail import address, ids
from relay.mail.message import Principal

router = resource("Domains")
SWITCHES = ("open_tracking", "click_tracking", "inbound_enabled", "catch_all", "inbound_addresses")


class DomainInput(Input):
    """A domain to send from."""

    name: str = Field(min_length=1, max_length=255)
    region: str | None = Field(None, description="Accepted and ignored: mail leaves from this relay")
    custom_return_path: str | None = Field(None, max_length=255, description="Host that bounces come back to; bounces.<name> without one, \"\" for none")
    tracking_domain: str = Field("", max_length=255)
    open_tracking: bool | None = None
    click_tracking: bool | None = None
    inbound_enabled: bool | None = Field(None, description="Take mail to the domain: GET /inbound and the event email.inbound")
    catch_all: bool | None = None
    inbound_addresses: list[str] | None = Field(None, max_length=domains.MAILBOXES)
    tls_mode: Literal["opportunistic", "enforced"] | None = None


class DomainChange(Input):
    """What to change; what is absent stays."""

    open_tracking: bool | None = None
    click_tracking: bool | None = None
    tracking_domain: str | None = Field(None, max_length=255, description="Host of links; null or \"\" for the relay's own")
    custom_return_path: str | None = Field(None, max_length=255)
    inbound_enabled: bool | None = Field(None, description="Take mail to the domain: GET /inbound and the event email.inbound")
    catch_all: bool | None = Field(None, description="Take mail to any name at the domain, or only to inbound_addresses")
    inbound_addresses: list[str] | None = Field(None, max_length=domains.MAILBOXES, description="What stands before the @; used without catch_all")


def _named(domain_id: str) -> str:
    """The id, which alone stands in a path."""
    if ids.internal(domain_id, "dom") is None:
        raise NotFound("Domain not found")
    return domain_id


async def _of(here: Relay, who: Principal, act: Any, domain_id: str, **named: Any) -> dict[str, Any]:
    """What an act on a domain gives, in the words of the API."""
    name = _named(domain_id)
    try:
        return await here.act(who, act, name, **named)
    except NotFound:
        raise NotFound("Domain not found") from None


def shown(domain: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": domain["id"], "name": domain["name"], "status": domain["status"], "dns_records": domain["dns_records"],
        "open_tracking": bool(domain.get("open_tracking")), "click_tracking": bool(domain.get("click_tracking")),
        "tracking_domain": domain.get("tracking_domain") or None, "return_path": domain.get("return_path") or None,
        "inbound_enabled": bool(domain.get("inbound_enabled")), "catch_all": bool(domain.get("catch_all", True)),
        "inbound_addresses": domain.get("inbound_addresses") or [], "reports_address": domain["reports_address"] or None, "dkim": domain["dkim"],
        "verified_at": domain["verified_at"], "checked_at": domain["checked_at"], "created_at": domain["created_at"],
    }


@router.post("/domains", status_code=201)
async def add_domain(here: Core, who: Owner, given: DomainInput) -> Any:
    """Add a domain; its answer has the DNS records to publish. Its DKIM keys sign from now on."""
    added = await here.act(who, domains.add, given.name, return_path=given.custom_return_path, tracking_domain=given.tracking_domain)
    switches = {name: value for name in SWITCHES if (value := getattr(given, name)) is not None}
    return shown(await here.act(who, domains.configure, added["id"], **switches) if switches else added)


@router.get("/domains")
async def list_domains(here: Core, who: Owner) -> Any:
    """List the project's domains."""
    return whole("domains", [shown(each) for each in await here.act(who, domains.every)])


@router.get("/domains/{domain_id}")
async def get_domain(here: Core, who: Owner, domain_id: str) -> Any:
    """One domain with its DNS records, as DNS showed them last."""
    return shown(await _of(here, who, domains.get, domain_id))


@router.patch("/domains/{domain_id}")
async def change_domain(here: Core, who: Owner, domain_id: str, given: DomainChange) -> Any:
    """Switch tracking, or name the hosts of links and bounces."""
    changes = given.model_dump(exclude_unset=True)
    for name, key in (("tracking_domain", "tracking_domain"), ("custom_return_path", "return_path")):
        if name in changes:
            host = changes.pop(name)
            changes[key] = address.a_label(host) if host else ""
    changes = {name: value for name, value in changes.items() if value is not None}
    return shown(await _of(here, who, domains.configure, domain_id, **changes))


@router.delete("/domains/{domain_id}")
async def remove_domain(here: Core, who: Owner, domain_id: str) -> Any:
    """Remove a domain and its keys; mail that waits leaves unsigned."""
    await _of(here, who, domains.remove, domain_id)
    return {"deleted": True}


@router.post("/domains/{domain_id}/verify")
async def verify_domain(here: Core, who: Owner, domain_id: str) -> Any:
    """Look at DNS now; the answer says which records are there."""
    found = shown(await _of(here, who, domains.verify, domain_id))
    here.occurred()
    return found


@router.post("/domains/{domain_id}/dkim/rotate")
async def rotate_dkim(here: Core, who: Owner, domain_id: str) -> Any:
    """Make new DKIM keys beside those that sign; they wait for their DNS records."""
    return rotation(await _of(here, who, domains.rotate, domain_id))


@router.post("/domains/{domain_id}/dkim/rotate/activate")
async def activate_dkim(
    here: Core, who: Owner, domain_id: str, force: bool = Query(False, description="Accepted; DNS must show the record all the same"),
) -> Any:
    """Sign with the new keys from now on; 409 until DNS shows their records, 503 when DNS cannot be read."""
    return rotation(await _of(here, who, domains.activate, domain_id))


@router.delete("/domains/{domain_id}/dkim/rotate")
async def cancel_dkim(here: Core, who: Owner, domain_id: str) -> Any:
    """Forget the new keys; the old ones go on signing."""
    return rotation(await _of(here, who, domains.cancel, domain_id))


def rotation(domain: dict[str, Any]) -> dict[str, Any]:
    """Where a rotation stands: idle, pending_dns, ready or retiring."""
    keys = {state: [key for key in domain["dkim"] if key["state"] == state] for state in ("active", "pending", "retired")}
    records = [record for record in domain["dns_records"] if record["purpose"] == "dkim_rotation"]
    state = "retiring" if keys["retired"] else "idle"
    if keys["pending"]:
        state = "ready" if all(record["verified"] for record in records) else "pending_dns"
    return {
        "domain_id": domain["id"], "state": state, "active_selector": _selector(keys["active"]), "pending_selector": _selector(keys["pending"]),
        "pending_records": records, "started_at": keys["pending"][0]["created_at"] if keys["pending"] else None,
        "retired_selector": _selector(keys["retired"]), "retire_after": domain["retire_after"],
    }


def _selector(keys: list[dict[str, Any]]) -> str | None:
    return keys[0]["selector"] if keys else None
