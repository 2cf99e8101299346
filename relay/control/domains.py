"""Acts on domains: add, list, verify by DNS, rotate DKIM keys."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from relay.clock import iso
from relay.control import Control, records
from relay.errors import Conflict, Defer, Invalid
from relay.mail import address, dkim
from relay.mail.reply import Reply
from relay.mail.tokens import REPORTS, pack
from relay.store import domains, projects
from relay.store.domains import ACTIVE, PENDING, RETIRED, DkimKey, Domain

LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # of a selector; none that look alike
KNOWN = ("open_tracking", "click_tracking", "tracking_domain", "return_path", "inbound_enabled", "catch_all", "inbound_addresses")
MAILBOXES = 200  # local parts of a domain that takes mail for some only
RETIRE = 7 * 86_400.0  # seconds that the record of a retired key should stay: mail signed by it may wait five days at a receiver


async def add(control: Control, name: str, project: str = projects.DEFAULT, return_path: str | None = None, tracking_domain: str = "") -> dict[str, Any]:
    """The new domain with its records; its keys sign from now on.

    return_path      host that bounces come back to; None = bounces.<name>, "" = none
    tracking_domain  host for links, "" = none
    """
    name, now = _checked(name), control.clock.now()
    owner = await control.store.read(projects.by_name, project)
    number = control.maker.next()
    back = f"bounces.{name}" if return_path is None else return_path
    settings = {"open_tracking": control.settings.tracking.opens, "click_tracking": control.settings.tracking.clicks,
                "tracking_domain": address.a_label(tracking_domain) if tracking_domain else "", "return_path": address.a_label(back) if back else ""}
    keys = await _generate(control, number, name, ACTIVE)
    domain = await control.store.write(domains.add, Domain(number, owner.id, name, domains.PENDING, {}, settings, now, keys=keys))
    control.changed("domains")
    return shown(control, domain)


def _checked(name: str) -> str:
    try:
        name = address.a_label(name.removesuffix("."))
    except Invalid as error:
        raise Invalid("name", error.text) from None
    if "." not in name:
        raise Invalid("name", f"{name} is not a domain that can be sent from: it has one label")
    return name


async def _generate(control: Control, domain_id: int, name: str, state: str) -> tuple[DkimKey, ...]:
    """An RSA and an Ed25519 key, in threads: RSA takes some tenths of a second."""
    stem = "r" + "".join(secrets.choice(LETTERS) for _ in range(6))
    pairs = await asyncio.gather(*(asyncio.to_thread(dkim.generate, algorithm) for algorithm in (dkim.RSA, dkim.ED25519)))
    selectors = (stem, f"{stem}e")
    return tuple(
        DkimKey(control.maker.next(), domain_id, selector, algorithm, control.vault.seal(pem.decode(), f"dkim:{selector}._domainkey.{name}"), public, state,
                control.clock.now())
        for selector, algorithm, (pem, public) in zip(selectors, (dkim.RSA, dkim.ED25519), pairs, strict=True))


async def every(control: Control, project: str = projects.DEFAULT) -> list[dict[str, Any]]:
    owner = await control.store.read(projects.by_name, project)
    return [shown(control, domain) for domain in await control.store.read(domains.by_project, owner.id)]


async def get(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    return shown(control, await _get(control, name, project))


async def _get(control: Control, name: str, project: str) -> Domain:
    owner = await control.store.read(projects.by_name, project)
    return await control.store.read(domains.get, owner.id, name if name.startswith("dom_") else address.a_label(name.removesuffix(".")))


async def verify(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """The domain after a fresh look at DNS."""
    domain = await looked_at(control, await _get(control, name, project))
    control.changed("domains")
    return shown(control, domain)


async def looked_at(control: Control, domain: Domain) -> Domain:
    """The domain with what DNS shows now, stored."""
    wanted = _records(control, domain)
    for record in wanted:
        control.resolver.drop(record.name, record.type)
    answers = await asyncio.gather(*(control.resolver.lookup(record.name, record.type) for record in wanted))
    now = control.clock.now()
    found = {record.key: records.shows(record, answer) for record, answer in zip(wanted, answers, strict=True)}
    return await control.store.write(domains.checked, replace(domain, **records.looked_at(domain, found, now)), now)


async def configure(control: Control, name: str, project: str = projects.DEFAULT, **settings: Any) -> dict[str, Any]:
    """The domain with settings of KNOWN changed; raises Invalid naming the one that is wrong."""
    if unknown := set(settings) - set(KNOWN):
        raise Invalid(sorted(unknown)[0], f"a domain has no setting {sorted(unknown)[0]}; it has {', '.join(KNOWN)}")
    if (given := settings.get("inbound_addresses")) is not None:
        settings["inbound_addresses"] = _mailboxes(given)
    domain = await _get(control, name, project)
    domain = await control.store.write(domains.configure, domain.project_id, domain.name, settings)
    control.changed("domains")
    return shown(control, domain)


def _mailboxes(given: Sequence[str]) -> list[str]:
    """Local parts in lower case, without what follows a plus; raises Invalid for what is none."""
    names = list(dict.fromkeys(str(each).strip().lower() for each in given))
    if len(names) > MAILBOXES:
        raise Invalid("inbound_addresses", f"at most {MAILBOXES} addresses; catch_all takes any")
    for name in names:
        if "+" in name or not address.valid(f"{name}@example.com", False):
            raise Invalid("inbound_addresses", f"{name[:80]!r} is not what stands before the @ of an address, or has a plus; whatever follows one is taken too")
    return names


async def remove(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    domain = await _get(control, name, project)
    await control.store.write(domains.remove, domain.project_id, domain.name)
    control.changed("domains")
    return {"deleted": True, "name": domain.name}


async def rotate(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """New keys beside those that sign; they wait for DNS. Raises Conflict while a rotation is under way."""
    domain = await _get(control, name, project)
    if any(key.state == PENDING for key in domain.keys):
        raise Conflict(f"{domain.name} has a rotation under way; publish its records, then relay domain dkim {domain.name} --activate")
    await control.store.write(domains.add_keys, await _generate(control, domain.id, domain.name, PENDING))
    return await get(control, domain.name, project)


async def activate(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """The pending keys sign from now on, if DNS shows them; raises Conflict when it does not, Defer when nobody answers."""
    domain = await looked_at(control, await _get(control, name, project))
    for record in _records(control, domain):
        if record.purpose == "dkim_rotation":
            _prove(record, records.shows(record, await control.resolver.lookup(record.name, record.type)))
    domain = await control.store.write(domains.activate, domain.project_id, domain.name)
    control.changed("domains")
    return shown(control, domain)


def _prove(record: records.Record, shown_by_dns: bool | None) -> None:
    if shown_by_dns is None:
        raise Defer(Reply(451, "4.4.3", f"DNS does not answer for {record.name}, try again later"))
    if not shown_by_dns:
        raise Conflict(f"DNS does not show {record.name} yet; until it does the old keys go on signing")


async def cancel(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """The domain without its pending keys."""
    domain = await _get(control, name, project)
    domain = await control.store.write(domains.cancel, domain.project_id, domain.name)
    return shown(control, domain)


def _records(control: Control, domain: Domain) -> list[records.Record]:
    return records.records(domain, control.settings.hostname, control.settings.http.public_url, reports_address(control, domain))


def reports_address(control: Control, domain: Domain) -> str:
    """Where reports about the domain come in, "" where no mail does."""
    if control.tokens is None or not control.settings.smtp.inbound:
        return ""
    return f"reports+{control.tokens.make(REPORTS, pack(domain.id))}@{domain.settings.get('return_path') or control.settings.hostname}"


def shown(control: Control, domain: Domain) -> dict[str, Any]:
    """A domain as JSON; never a private key."""
    return {
        "id": domain.public_id, "name": domain.name, "status": domain.status, "dns_records": [asdict(record) for record in _records(control, domain)],
        **domain.settings, "reports_address": reports_address(control, domain),
        "verified_at": iso(domain.verified_at), "checked_at": iso(domain.checked_at), "created_at": iso(domain.created_at),
        "dkim": [{"selector": key.selector, "algorithm": key.algorithm, "state": key.state, "created_at": iso(key.created_at)} for key in domain.keys],
        "retire_after": iso(max((key.created_at for key in domain.keys), default=0.0) + RETIRE) if any(k.state == RETIRED for k in domain.keys) else None,
    }
