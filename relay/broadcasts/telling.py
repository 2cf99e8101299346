"""A broadcast as it is told: its row and its figures as JSON, and how long it will take. The API, the dialects and the command line all say it so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from relay.audience.grammars import read
from relay.broadcasts import forecast
from relay.broadcasts.forecast import Pace, Router
from relay.clock import iso
from relay.mail import ids
from relay.settings import Limit
from relay.store.broadcasts import broadcasts, counts, ledger
from relay.store.broadcasts.broadcasts import SENDING, Broadcast, Variant
from relay.store.engine import Store


class Delivering(Protocol):
    """What a forecast asks of the queue: relay.leader.Leader."""

    router: Router
    pace: Pace


async def one(store: Store, found: Broadcast) -> dict[str, Any]:
    """A broadcast with its variants and the worst of their spam scores."""
    out = shown(found, counts.whole(await store.read(counts.of, found.id)))
    variants = await store.read(broadcasts.variants, found.id)
    if found.ab_test is not None:
        out["ab_test"]["variants"] = [wording(v) for v in variants]
    scores = [v.facts["spam_score"] for v in variants if v.facts.get("spam_score") is not None]
    return {**out, "spam_score": max(scores, default=None)}


async def ahead(store: Store, found: Broadcast, queue: Delivering, limit: Limit, now: float) -> dict[str, Any]:
    """How long it will take under the limits of this moment, what takes longest, and who will be left out; of a running one what is left."""
    skipped: Counter[str] = Counter()
    if found.started_at is None:
        by_domain, skipped = await store.read(ledger.sizes, found, now, read)
    else:
        by_domain = await store.read(ledger.domains, found.id)
    limits = forecast.limits({name: getattr(limit, name) for name in ("key_per_hour", "key_per_day", "project_per_hour", "project_per_day")})
    model = forecast.estimate(await forecast.sites(queue.router, by_domain), queue.pace, found.per_minute, limits)
    if found.status == SENDING:
        told = tallied(counts.whole(await store.read(counts.of, found.id)))
        model = forecast.running(model, told["total_recipients"] - told["pending"], now - (found.started_at or now))
    sites = [{"site": site, "recipients": count, "seconds": round(seconds, 1)} for site, count, seconds in model.sites]
    return {"recipients": model.recipients, "seconds": round(model.seconds, 1), "limited_by": model.limited_by or None,
            "finishes_at": iso(max(now, found.scheduled_at or now) + model.seconds), "sites": sites, "skipped_by_reason": dict(skipped)}


def shown(each: Broadcast, figures: Mapping[str, int]) -> dict[str, Any]:
    """A broadcast as a list shows it."""
    return {
        "id": each.public_id, "name": each.name or None, "subject": each.subject, "status": each.status, "from": each.sender, "reply_to": each.reply_to,
        "template_id": _public("tpl", each.template_id), "segment_id": _public("seg", each.segment_id),
        "audience_id": _public("aud", each.audience_id), "topic_id": _public("top", each.topic_id),
        "all_contacts": each.everyone, "rules": each.rules, "per_minute": each.per_minute, "tracking": each.tracking, "ab_test": _shown_test(each),
        "error": each.error or None, **tallied(figures), "scheduled_at": iso(each.scheduled_at), "started_at": iso(each.started_at),
        "sent_at": iso(each.started_at), "ended_at": iso(each.ended_at), "created_at": iso(each.created_at), "updated_at": iso(each.updated_at),
    }


def _public(prefix: str, number: int | None) -> str | None:
    return None if number is None else ids.public(prefix, number)


STATES: Sequence[str] = ("pending", "queued", "delivered", "bounced", "failed", "suppressed", "cancelled")
ACTS: Sequence[str] = ("opened", "clicked", "unsubscribed", "complained")


def tallied(figures: Mapping[str, int]) -> dict[str, Any]:
    """The figures: everybody who may get it or might have, by what became of them; and who was left out, by reason."""
    figures = Counter(figures)
    skipped = {name.removeprefix("skipped."): count for name, count in sorted(figures.items()) if name.startswith("skipped.") and count}
    return {"total_recipients": sum(figures[name] for name in STATES), **{name: figures[name] for name in (*STATES, *ACTS)},
            "skipped": sum(skipped.values()), "skipped_by_reason": skipped}


def _shown_test(each: Broadcast) -> dict[str, Any] | None:
    if each.ab_test is None:
        return None
    said = each.ab_test
    return {"test_sample_size": said["sample"], "test_duration_minutes": said["minutes"], "winner_metric": said["metric"], "winner": each.winner,
            "ends_at": iso(each.test_ends_at)}


def wording(v: Variant) -> dict[str, Any]:
    return {"id": v.number, "name": v.name, "subject": v.subject, "html": v.html, "text": v.text, "weight": v.weight,
            "spam_score": v.facts.get("spam_score")}
