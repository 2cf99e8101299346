"""Checks that ask others: DNS, our name and its reverse, port 25, routes, rspamd, and the records of the sending domains."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from relay.cli.checks import ERROR, WARNING, Check, Context, Finding
from relay.control import records
from relay.delivery import source
from relay.errors import StoreError
from relay.kinds import split_address
from relay.store import domains, projects, secrets, sites

PROBES = ("gmail.com", "outlook.com", "yahoo.com")  # domains whose MX hosts always listen: is outbound port 25 open?
CONNECT = 5.0  # seconds


async def dns(context: Context) -> Sequence[Finding]:
    """Whether a resolver answers at all; that a name does not exist is an answer too."""
    answer = await context.resolver.lookup(PROBES[0], "MX")
    if answer.failed:
        servers = ", ".join(context.settings.dns.nameservers) or "those of /etc/resolv.conf"
        return [Finding(ERROR, "dns.nameservers", f"the nameservers ({servers}) do not answer: {answer.why}",
                        "run a resolver on this machine, such as unbound")]
    return []


async def hostname(context: Context) -> Sequence[Finding]:
    """Our name should lead to an address: it is in EHLO and in the SPF and MX records of every domain."""
    name = context.settings.hostname
    if context.laptop:
        return []
    answers = await asyncio.gather(*(context.resolver.lookup(name, kind) for kind in ("A", "AAAA")))
    if any(answer.found for answer in answers) or any(answer.failed for answer in answers):
        return []
    return [Finding(WARNING, "hostname", f"{name} has no address in DNS", f"add an A record for {name}; receivers check the name in EHLO")]


async def sources(context: Context) -> Sequence[Finding]:
    """PTR and FCrDNS of the addresses that we send from."""
    found = []
    for address in source.addresses(context.settings):
        found += await _source(context, address)
    return found


async def _source(context: Context, address: str) -> list[Finding]:
    configured = address in context.settings.delivery.sources
    if configured and (fault := _bindable(address)):
        return [Finding(ERROR, "delivery.sources", f"{address} cannot be sent from: {fault}", "name addresses of this machine")]
    if not ipaddress.ip_address(address).is_global and not context.settings.delivery.allow_private:
        return [Finding(WARNING, "delivery.sources", f"we send from {address}, a private address, and what the world sees is not known here",
                        "look at the PTR of the public address by hand")]
    name = await context.resolver.confirmed(address)
    if name == context.settings.hostname:
        return []
    if name:
        return [Finding(WARNING, "hostname", f"the PTR of {address} is {name}, our EHLO says {context.settings.hostname}",
                        f'make them agree: hostname = "{name}"')]
    seen = (await context.resolver.names(address)).records
    why = f"its PTR {seen[0]} does not lead back to it" if seen else "it has no PTR record"
    return [Finding(ERROR, "delivery.sources", f"{address}: {why}; Gmail and others refuse such a sender",
                    f"ask who owns the address to set its PTR to {context.settings.hostname}")]


def _bindable(address: str) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            return str(error)
    return ""


async def port25(context: Context) -> Sequence[Finding]:
    """Whether other people's MX hosts can be reached; many networks block port 25."""
    if source.all_routed(context.settings):
        return []
    port, tried = context.settings.delivery.port, 0
    for domain in PROBES:
        exchangers = (await context.resolver.lookup(domain, "MX")).records
        for host in exchangers[:1]:
            tried += 1
            addresses = (await context.resolver.lookup(host.host, "A")).records
            if addresses and not await _refused(addresses[0], port):
                return []
    if not tried:
        return [Finding(WARNING, "delivery.port", f"outbound port {port} could not be tried, DNS shows no MX of {', '.join(PROBES)}",
                        "look at [dns] nameservers; a resolver that knows no public names cannot route mail by MX")]
    return [Finding(ERROR, "delivery.port", f"no MX host of {', '.join(PROBES)} can be reached on port {port}",
                    "ask the provider to open port 25, or send through a smarthost: [[delivery.route]]")]


async def _refused(host: str, port: int) -> str:
    """Why no connection comes about, or ""."""
    try:
        async with asyncio.timeout(CONNECT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return str(error) or "no answer"
    writer.close()
    return ""


async def routes(context: Context) -> Sequence[Finding]:
    found = []
    for number, rule in enumerate(context.settings.delivery.route):
        if rule.host == context.settings.capture.listen and context.pid is None:
            continue  # it listens once the relay runs
        if why := await _refused(*split_address(rule.host)):
            found.append(Finding(WARNING, f"delivery.route[{number}].host", f"{rule.host} does not answer: {why}",
                                 f"mail to {rule.domain} waits until it does"))
    return found


async def rspamd(context: Context) -> Sequence[Finding]:
    url = urlsplit(context.settings.rspamd.url)
    if not url.hostname:
        return []
    if why := await _refused(url.hostname, url.port or (443 if url.scheme == "https" else 80)):
        return [Finding(WARNING, "rspamd.url", f"{context.settings.rspamd.url} does not answer: {why}", "mail goes on unscored until it does")]
    return []


async def sending(context: Context) -> Sequence[Finding]:
    """DKIM, SPF and DMARC records of every domain, and whether its keys can be opened."""
    if context.store is None:
        return []
    known = await context.store.read(domains.every)
    names = {p.id: p.name for p in await context.store.read(projects.every)}
    found = [finding for each in await asyncio.gather(*(_domain(context, d, names[d.project_id]) for d in known)) for finding in each]
    if not known and context.settings.domains.require_verified:
        found.append(Finding(WARNING, "domains.require_verified", "there is no domain yet, so every From is refused", "relay domain add your-domain"))
    return found


async def _domain(context: Context, domain: domains.Domain, project: str) -> list[Finding]:
    name = f"{domain.name} (project {project})"
    return [*_keys(context, domain, name), *await _records(context, domain, name)]


def _keys(context: Context, domain: domains.Domain, name: str) -> list[Finding]:
    vault = secrets.vault(context.secrets, "dkim")
    try:
        for key in domain.keys:
            vault.open(key.private_key, f"dkim:{records.record_name(key, domain.name)}")
    except StoreError as error:
        return [Finding(ERROR, "secret_key", f"{name}: {error.text}")]
    if not any(key.state == domains.ACTIVE for key in domain.keys):
        return [Finding(ERROR, "", f"{name} has no DKIM key, its mail leaves unsigned", f"relay domain dkim {domain.name} --rotate")]
    return []


async def _records(context: Context, domain: domains.Domain, name: str) -> list[Finding]:
    missing: dict[str, list[records.Record]] = {}
    for record in records.records(domain, context.settings.hostname, context.settings.http.public_url):
        if records.shows(record, await context.resolver.lookup(record.name, record.type)) is False:
            missing.setdefault(record.purpose, []).append(record)
    found = []
    for purpose in ("dkim", "spf", "dmarc", "mx", "tracking"):
        if purpose in missing:
            level = ERROR if purpose == "dkim" and domain.verified_at is not None else WARNING
            where = ", ".join(record.name for record in missing[purpose])
            found.append(Finding(level, "", f"{name}: DNS does not show its {purpose} record at {where}", f"relay domain dkim {domain.name} prints it"))
    return found


async def suspended(context: Context) -> Sequence[Finding]:
    if context.store is None:
        return []
    now = context.clock.now()
    return [Finding(WARNING, "", f"no mail goes to {site.name}: {site.reason}", f"relay queue resume {site.name}")
            for site in await context.store.read(sites.remembered, now) if site.suspended(now)]


CHECKS: tuple[tuple[str, Check], ...] = (
    ("dns", dns),
    ("hostname", hostname),
    ("sources", sources),
    ("port 25", port25),
    ("routes", routes),
    ("rspamd", rspamd),
    ("domains", sending),
    ("sites", suspended),
)
