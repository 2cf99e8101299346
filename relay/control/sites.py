"""What a project's queue looks like by site: who waits, since when and why, what is in flight, and the limits that hold.

What waits is the project's own; connections, rates and suspensions are the site's, which all projects share. A look at the store takes a query over all that
waits, so its answer is kept for as long as twenty of them would take (relay.queue.figures measures the same way).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relay.clock import iso
from relay.control import Control
from relay.queue.dispatch import FOREVER
from relay.store import rates, sites

if TYPE_CHECKING:
    from relay.queue.site import Site

SHARE = 20.0  # times as long as a look took is the least that passes before the next
LOOKS = 1_000  # projects whose look is remembered
REASONS = 3  # of a site that are shown
STEP = 15.0  # seconds of a point of the curves
POINTS = 60
UNKNOWN = "not looked up yet"


@dataclass(slots=True)
class Look:
    """What waited at a time: rows of rates.waiting and rates.reasons."""

    at: float
    took: float
    waiting: Sequence[Any]
    reasons: Sequence[Any]


@dataclass(slots=True)
class Looks:
    """The last look of each project."""

    control: Control
    known: OrderedDict[int, Look] = field(default_factory=OrderedDict)

    async def of(self, project: int) -> Look:
        clock, known = self.control.clock, self.known.get(project)
        if known is not None and clock.elapsed() < known.at + SHARE * known.took:
            return known
        began = clock.elapsed()
        found = await self.control.store.read(_look, project, clock.now())
        ended = clock.elapsed()
        self.known[project] = look = Look(ended, ended - began, *found)
        self.known.move_to_end(project)
        while len(self.known) > LOOKS:
            self.known.popitem(last=False)
        return look


def _look(conn: Any, project: int, now: float) -> tuple[Sequence[Any], Sequence[Any]]:
    return rates.waiting(conn, project, now), rates.reasons(conn, project)


async def figures(control: Control, looks: Looks, project: int) -> list[dict[str, Any]]:
    """The sites that the project's mail waits for, those with the most first, and those that are suspended."""
    look, now = await looks.of(project), control.clock.now()
    places = control.runner.places if control.runner is not None else {}
    found: dict[str, dict[str, Any]] = {}
    why: dict[str, Counter[str]] = {}
    for domain, ready, deferred, scheduled, held, oldest in look.waiting:
        site = getattr(places.get(domain), "site", None)
        row = found.setdefault(site.name if site is not None else domain, _row(control, site, domain))
        row["domains"].append(domain)
        for name, number in (("ready", ready), ("deferred", deferred), ("scheduled", scheduled), ("held", held)):
            row[name] += number
        row["oldest_at"] = min(filter(None, (row["oldest_at"], oldest)), default=None)
    for domain, code, enhanced, text, number in look.reasons:
        site = getattr(places.get(domain), "site", None)
        why.setdefault(site.name if site is not None else domain, Counter())[" ".join(str(each) for each in (code, enhanced, text) if each)] += number
    _in_flight(control, project, found)
    for each in await control.store.read(sites.remembered, now):
        if each.suspended(now):
            row = found.setdefault(each.name, _row(control, None, ""))
            row |= {"site": each.name, "suspended": True, "limit": f"suspended: {each.reason}", "limit_until": iso(each.suspended_until)}
    for name, row in found.items():
        row["reasons"] = [{"reply": reply, "number": number} for reply, number in why.get(name, Counter()).most_common(REASONS)]
        row["age"] = None if row["oldest_at"] is None else max(0.0, now - row["oldest_at"])
        row["oldest_at"] = iso(row["oldest_at"])
        row["waiting"] = row["ready"] + row["deferred"] + row["scheduled"] + row["held"]
    return sorted(found.values(), key=lambda row: (-row["waiting"], row["site"]))


def _row(control: Control, site: Site | None, domain: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "site": domain, "provider": UNKNOWN, "domains": [], "ready": 0, "deferred": 0, "scheduled": 0, "held": 0, "oldest_at": None, "in_flight": 0, "open": 0,
        "allowed": None, "most": None, "rate": None, "limit": "", "limit_until": None, "suspended": False,
    }
    if site is None:
        return row
    now = control.clock.elapsed()
    why, until = site.limit(now)
    rate = site.rate(now)
    ends = None if until is None or until == FOREVER else control.clock.now() + until - now
    return {**row, "site": site.name, "provider": site.provider, "open": site.open, "allowed": site.allowed(now), "most": site.connections(now),
            "rate": f"{rate.messages} in {rate.seconds:g} s" if rate is not None else None, "limit": why, "limit_until": iso(ends),
            "suspended": site.suspended > now}


def _in_flight(control: Control, project: int, found: dict[str, dict[str, Any]]) -> None:
    """Add the project's recipients that are on the wire just now."""
    known = control.runner.known if control.runner is not None else {}
    for waiting in tuple(known.values()):
        if waiting.out and waiting.project == project and waiting.site is not None and waiting.site.name in found:
            found[waiting.site.name]["in_flight"] += 1


async def curves(control: Control, project: int) -> dict[str, Any]:
    """The last POINTS steps: {at, rates: {delivered, deferred, failed} a second, latency: {median, p95} in seconds, None where nothing was delivered}."""
    now = control.clock.now()
    first = int(now / STEP) - POINTS + 1
    steps: list[dict[str, int]] = [{} for _ in range(POINTS)]
    waits: list[list[float]] = [[] for _ in range(POINTS)]
    for each in await control.store.read(rates.recent, project, first * STEP):
        place = int(each.at / STEP) - first
        if 0 <= place < POINTS:
            kind = each.type.removeprefix("email.")
            steps[place][kind] = steps[place].get(kind, 0) + 1
            if kind == "delivered":
                waits[place].append(max(each.waited, 0.0))
    return {
        "at": [(first + place) * STEP for place in range(POINTS)],
        "rates": {"delivered": [step.get("delivered", 0) / STEP for step in steps], "deferred": [step.get("deferred", 0) / STEP for step in steps],
                  "failed": [(step.get("bounced", 0) + step.get("failed", 0)) / STEP for step in steps]},
        "latency": {"median": [_share(each, 0.5) for each in waits], "p95": [_share(each, 0.95) for each in waits]},
    }


def _share(values: list[float], share: float) -> float | None:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None
