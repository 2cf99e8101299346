"""Settings, domains: the records to publish, what DNS showed of each, switches, and the rotation of DKIM keys."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import domains
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError

PATH = "/dashboard/settings/domains"
PURPOSES = {
    "dkim": "DKIM: proves that mail is yours", "dkim_rotation": "DKIM, the next key", "spf": "SPF", "dmarc": "DMARC", "return_path": "Bounces come back to us",
    "mx": "Mail to the domain", "tls_reports": "Reports about TLS", "tracking": "Links on your own name",
}
SWITCHES = (("open_tracking", "Track opens"), ("click_tracking", "Track clicks"), ("inbound_enabled", "Take mail to the domain"))


async def every(visit: Visit) -> Response:
    return visit.show("settings/domains.html", **await domains.list_domains(visit.here, visit.who))


async def add(visit: Visit) -> Response:
    try:
        made = await domains.add_domain(visit.here, visit.who, domains.DomainInput(name=visit.given("name")))
    except (RelayError, ValidationError) as error:
        return visit.show("settings/domains.html", error=visit.wrong(error), **await domains.list_domains(visit.here, visit.who))
    return visit.go(f"{PATH}/{made['id']}", "The domain is there. Publish its records, then verify it.")


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    found: Any = await domains.get_domain(visit.here, visit.who, visit.number("domain_id"))
    return visit.show("settings/domain.html", error=error, domain=found, rotation=_rotation(found), purposes=PURPOSES, switches=SWITCHES)


def _rotation(found: dict[str, Any]) -> dict[str, Any]:
    return domains.rotation({"retire_after": None, **found})


async def change(visit: Visit) -> Response:
    """The switches and hosts as the form has them."""
    try:
        given = domains.DomainChange(**{name: visit.ticked(name) for name, _ in SWITCHES}, tracking_domain=visit.given("tracking_domain"),
                                     custom_return_path=visit.given("return_path"))
        await domains.change_domain(visit.here, visit.who, visit.number("domain_id"), given)
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(_here(visit), "Saved. Records may have changed.")


async def verify(visit: Visit) -> Response:
    found = await domains.verify_domain(visit.here, visit.who, visit.number("domain_id"))
    missing = sum(not record["verified"] for record in found["dns_records"])
    return visit.go(_here(visit), "DNS shows all records." if not missing else f"DNS does not show {missing} of {len(found['dns_records'])} records yet.")


async def rotate(visit: Visit) -> Response:
    return await _act(visit, domains.rotate_dkim, "New keys wait for their records. They sign once DNS shows these and you activate them.")


async def activate(visit: Visit) -> Response:
    return await _act(visit, domains.activate_dkim, "The new keys sign from now on.")


async def forget(visit: Visit) -> Response:
    return await _act(visit, domains.cancel_dkim, "The new keys are forgotten; the old ones go on signing.")


async def _act(visit: Visit, act: Any, said: str) -> Response:
    try:
        await act(visit.here, visit.who, visit.number("domain_id"))
    except RelayError as error:
        return await one(visit, error)
    return visit.go(_here(visit), said)


async def remove(visit: Visit) -> Response:
    await domains.remove_domain(visit.here, visit.who, visit.number("domain_id"))
    return visit.go(PATH, "The domain is gone.")


def _here(visit: Visit) -> str:
    return f"{PATH}/{visit.number('domain_id')}"


_ONE = "/settings/domains/{domain_id}"
ROUTES = (
    get("/settings/domains", every), post("/settings/domains", add), get(_ONE, one), post(_ONE, change), post(f"{_ONE}/verify", verify),
    post(f"{_ONE}/rotate", rotate), post(f"{_ONE}/activate", activate), post(f"{_ONE}/forget", forget), post(f"{_ONE}/remove", remove),
)
