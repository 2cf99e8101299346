"""/analytics in the Plunk dialect: mail by day, the best campaigns, and the commonest events of an interval."""

from __future__ import annotations

from collections import Counter
from math import floor
from typing import Annotated, Any

from fastapi import Query

from relay.api.compat.plunk.events import NAMES
from relay.api.compat.plunk.interval import During
from relay.api.core import Core, Json, Owner, resource
from relay.broadcasts.telling import tallied
from relay.clock import iso
from relay.store import namings
from relay.store.audience.rules import DAY
from relay.store.broadcasts import broadcasts, counts
from relay.store.broadcasts.broadcasts import DRAFT, SCHEDULED, SENT, Broadcast

router = resource("Analytics")

SHOWN = {"emails": "email.queued", "opens": "email.opened", "clicks": "email.clicked", "bounces": "email.bounced", "delivered": "email.delivered"}


@router.get("/analytics/timeseries")
async def get_timeseries(here: Core, who: Owner, during: During) -> Any:
    """Mail that was accepted, delivered, opened, clicked and bounced on each day (UTC); opens and clicks as often as they happened."""
    found = await here.store.read(namings.daily, who.project, during.start, during.end, tuple(SHOWN.values()))
    days = range(floor(during.start / DAY), floor((during.end - 1) / DAY) + 1)
    return Json([{"date": iso(day * DAY), **{name: found.get((day, event), 0) for name, event in SHOWN.items()}} for day in days])


@router.get("/analytics/top-campaigns")
async def list_top_campaigns(here: Core, who: Owner, during: During, limit: Annotated[int, Query(description="Up to 50")] = 10) -> Any:
    """The campaigns that began in the interval and were opened most."""
    rows = [_row(each, figures) for each, figures in await _begun(here, who.project, during) if each.status == SENT]
    rows.sort(key=lambda row: -row["openedCount"])
    return Json(rows[:min(max(limit, 1), 50)])


@router.get("/analytics/campaign-stats")
async def get_campaign_stats(here: Core, who: Owner, during: During) -> Any:
    """How many campaigns there are, and the rates of those that were sent in the interval together, in percent."""
    begun = await _begun(here, who.project, during)
    rows = [_row(each, figures) for each, figures in begun if each.status == SENT]
    waiting = [await here.store.read(broadcasts.number_of, who.project, status, during.start, during.end) for status in (DRAFT, SCHEDULED)]
    sent, opened, clicked = (sum(row[name] for row in rows) for name in ("sentCount", "openedCount", "clickedCount"))
    return {"total": len(begun) + sum(waiting), "active": sum(waiting), "completed": len(rows), "averageOpenRate": _percent(opened, sent),
            "averageClickRate": _percent(clicked, sent)}


@router.get("/analytics/top-events")
async def list_top_events(here: Core, who: Owner, during: During, limit: Annotated[int, Query(description="Up to 20")] = 5) -> Any:
    """The commonest events, and by how many percent they changed against the same time before."""
    now, before = Counter[str](), Counter[str]()
    for figures, part in ((now, during), (before, during.before)):
        for (_, name), count in (await here.store.read(namings.daily, who.project, max(part.start, 0.0), part.end)).items():
            figures[NAMES.get(name, name)] += count
    return Json([{"name": name, "count": count, "trend": round(100 * (count - before[name]) / before[name]) if before[name] else 100}
                 for name, count in now.most_common(min(max(limit, 1), 20))])


async def _begun(here: Core, project: int, during: During) -> list[tuple[Broadcast, Counter[str]]]:
    """The newest campaigns that began in the interval, with their figures."""
    found = [each for each in await here.store.read(broadcasts.sent_since, project, during.start) if (each.started_at or 0.0) < during.end]
    figures = await here.store.read(counts.of_many, [each.id for each in found])
    return [(each, counts.whole(figures.get(each.id, {}))) for each in found]


def _row(each: Broadcast, figures: Counter[str]) -> dict[str, Any]:
    told = tallied(figures)
    sent = told["delivered"] + told["bounced"] + told["failed"]
    return {"id": each.public_id, "subject": each.subject or "No subject", "sentCount": sent, "openedCount": told["opened"], "clickedCount": told["clicked"],
            "openRate": _percent(told["opened"], sent), "clickRate": _percent(told["clicked"], sent)}


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0
