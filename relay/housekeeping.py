"""What a relay does for itself while it runs: prune what is over, note which keys are used, look at DNS again, remember broken TLS.

Each chore is a row of CHORES: its pause and its function. A chore that fails is logged and tried again at its next turn; none of them holds up mail, their
writes go in the jobs lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay import census, consent, control, log
from relay.audience import sizes
from relay.clock import Clock, Steps
from relay.consent import Act
from relay.control import domains as acts
from relay.delivery.connect import Connector
from relay.errors import RelayError
from relay.metrics import counter
from relay.services import Doorkeeper
from relay.settings import Settings
from relay.smtp.tls import Certificate
from relay.store import counters, domains, keys, retention, sites, steps
from relay.store.engine import JOBS, Store
from relay.store.retention import Keep
from relay.store.workflows import runs

LOG = log.get("housekeeping")
CHANGED = counter("domain_status_changes_total", "Domains whose status a look at DNS changed, by the new status", "status")
STEPS = counter("clock_steps_total", "Times that the machine's clock was found set by a minute or more", "direction")
_FORWARD, _BACK = (STEPS.labels(direction).inc for direction in ("forward", "back"))
STALE = 3_600.0  # seconds after which a domain's DNS is looked at again
LAPSED = 500  # suppressions ended in one transaction
DOMAINS = 50  # domains looked at in one turn


@dataclass(slots=True)
class House:
    """What the chores work on."""

    store: Store
    config: Settings
    clock: Clock
    control: control.Control
    keeper: Doorkeeper
    connector: Connector
    certificate: Certificate | None = None
    broken: dict[str, float] = field(default_factory=dict)  # hosts whose STARTTLS failed since the last turn, and until when that counts
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = Steps(self.clock)


async def prune(house: House) -> None:
    """Drop what [retention] says is over, and give its space back."""
    keep = house.config.retention
    kept = Keep(keep.bodies, keep.attempts, keep.events, keep.messages, keep.inbound, keep.reports, keep.ledger)
    gone = await retention.sweep(house.store, kept, house.clock.now())
    await house.store.write(counters.prune, house.clock.now(), lane=JOBS)
    await house.store.write(sites.prune, house.clock.now(), lane=JOBS)
    if gone:
        LOG.info("pruned", **{name: getattr(gone, name) for name in gone.__slots__})


async def renew_certificate(house: House) -> None:
    """Load a changed certificate, also while nobody begins TLS, so that its expiry is shown as it is."""
    if house.certificate is not None:
        house.certificate.reload()


async def note_keys(house: House) -> None:
    """last_used_at of the keys that were used since the last turn."""
    used, house.keeper.used = list(house.keeper.used), {}
    await house.store.write(keys.used, used, house.clock.now(), lane=JOBS)


async def look_at_dns(house: House) -> None:
    """Look again at the records of domains not seen for an hour; a failure is told, and never stops mail."""
    now = house.clock.now()
    stale = [each for each in await house.store.read(domains.every) if (each.checked_at or each.created_at) < now - STALE]
    for domain in stale[:DOMAINS]:
        before = domain.status
        after = await acts.looked_at(house.control, domain)
        if after.status != before:
            CHANGED.labels(after.status).inc()
            LOG.warning("domain changed", domain=after.name, project=after.project_id, was=before, status=after.status)


async def lapse(house: House) -> None:
    """End the suppressions whose time is over."""
    total = 0
    while gone := await house.store.write(consent.lapse, Act("lapsed", at=house.clock.now()), LAPSED, lane=JOBS):
        total += gone
    if total:
        LOG.info("suppressions ended", entries=total)
        house.control.changed("suppressions")


async def remember_tls(house: House) -> None:
    """Keep over a restart which servers' STARTTLS is broken (B24)."""
    while house.broken:
        name, until = house.broken.popitem()
        await house.store.write(sites.broken_tls, name, until, house.clock.now(), lane=JOBS)


async def resume_imports(house: House) -> None:
    """Go on with imports that a crash or a stop left."""
    if house.control.imports is not None:
        await house.control.imports.resume()


async def resume_bulk(house: House) -> None:
    """Go on with acts on many contacts that a crash or a stop left."""
    if house.control.bulk is not None:
        await house.control.bulk.resume()


async def count_segments(house: House) -> None:
    """Count the segments that nobody has counted today."""
    await sizes.count(house.store, house.clock.now())


async def prune_workflows(house: House) -> None:
    """Drop runs of workflows that ended as long ago as events are kept."""
    total = 0
    while gone := await house.store.write(runs.prune, house.clock.now() - house.config.retention.events, lane=JOBS):
        total += gone
    if total:
        LOG.info("pruned workflow runs", runs=total)


async def count_people(house: House) -> None:
    """Suppressions and contacts, for the metrics."""
    await census.people(house.store)


async def look_at_keys(house: House) -> None:
    """The age of DKIM keys, for the metrics."""
    await census.keys(house.store, house.clock.now())


async def count_backlog(house: House) -> None:
    """The events that webhook endpoints wait for, for the metrics."""
    await census.backlog(house.store)


async def watch_clock(house: House) -> None:
    """Tell of a clock that was set: mail is due by it, so what waits goes earlier or later. Nothing expires by it unless it was tried (B4, B23)."""
    step = house.steps.look()
    if not step:
        return
    (_FORWARD if step > 0 else _BACK)()
    LOG.warning("clock stepped", seconds=round(step))
    await house.store.write(steps.note, house.clock.now(), step, lane=JOBS)


CHORES: tuple[tuple[float, Callable[[House], Awaitable[None]]], ...] = (
    (300.0, prune),
    (60.0, renew_certificate),
    (30.0, note_keys),
    (60.0, look_at_dns),
    (60.0, lapse),
    (60.0, remember_tls),
    (60.0, resume_imports),
    (60.0, resume_bulk),
    (300.0, prune_workflows),
    (300.0, count_segments),
    (300.0, count_people),
    (300.0, look_at_keys),
    (60.0, count_backlog),
    (60.0, watch_clock),
)


async def run(house: House) -> None:
    """All chores, for ever."""
    for site in await house.store.read(sites.remembered, house.clock.now()):
        if site.broken_tls_until:
            house.connector.broken.until[site.name] = site.broken_tls_until
    house.connector.broken.remember = house.broken.__setitem__
    async with asyncio.TaskGroup() as group:
        for pause, chore in CHORES:
            group.create_task(_again(house, pause, chore))


async def _again(house: House, pause: float, chore: Callable[[House], Awaitable[None]]) -> None:
    while True:
        try:
            await chore(house)
        except RelayError as error:
            LOG.warning("chore postponed", chore=chore.__name__, error=error.text)
        await asyncio.sleep(pause)
