"""/webhooks: endpoints for the project's events, their secrets, and what was delivered to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import Field

from relay import events, webhooks
from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, resource, whole
from relay.clock import iso
from relay.errors import Invalid
from relay.fetch import local
from relay.mail import ids
from relay.store import webhooks as stored
from relay.store.webhooks import Delivery, Webhook

URL = 2_000  # characters
GRACE = 24  # hours that a rotated secret still signs
REPLAYED = 1_000  # deliveries of one batch replay
ENDPOINTS = 50  # of a project

router = resource("Webhooks")


class WebhookInput(Input):
    """An endpoint and the events that it wants; `*` is all of them, `email.*` all of a noun."""

    url: str = Field(max_length=URL)
    events: list[str] = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=500)


class WebhookChange(Input):
    """What to change; what is absent stays."""

    url: str | None = Field(None, max_length=URL)
    events: list[str] | None = Field(None, min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)
    enabled: bool | None = None


class RotateInput(Input):
    """How long the old secret signs beside the new one."""

    grace_hours: int = Field(GRACE, ge=0, le=168)


class ReplayInput(Input):
    """Which failed deliveries to make again."""

    within_minutes: int = Field(30 * 24 * 60, ge=1, le=30 * 24 * 60)
    event_type: str | None = None
    limit: int = Field(REPLAYED, ge=1, le=REPLAYED)


def number_of(text: str) -> int:
    return known("wh", text, "Webhook")


def _url(here: Relay, text: str) -> str:
    """An endpoint that could be called; a name that leads to a private address is found out when it is called."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username and text.isprintable() and " " not in text
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise Invalid("url", "url is an http or https URL")
    if not here.settings.webhooks.allow_private and local(str(parts.hostname)):
        raise Invalid("url", f"{parts.hostname} is not a public address; name a host of the internet, or let the operator set [webhooks] allow_private = true")
    return text


def shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.public_id, "url": webhook.url, "events": webhook.events, "description": webhook.description, "active": webhook.enabled,
        "created_at": iso(webhook.created_at), "secret_rotated_at": iso(webhook.rotated_at),
        "previous_secret_expires_at": iso(webhook.previous_until) if webhook.previous_secret else None, "consecutive_failures": webhook.failures,
        "disabled_at": iso(webhook.disabled_at), "disabled_reason": webhook.disabled_reason, "last_delivery_at": iso(webhook.delivered_at),
        "last_delivery_status": webhook.delivered_status,
    }


def _seal(here: Relay, number: int, text: str) -> str:
    return here.seals.seal(text, f"webhook:{number}")


@router.post("/webhooks", status_code=201)
async def create_webhook(here: Core, who: Owner, given: WebhookInput) -> Any:
    """Register an endpoint; `signing_secret` is in this answer and nowhere else."""
    wanted, secret, number, now = events.checked(given.events), webhooks.new_secret(), here.maker.next(), here.clock.now()
    url = _url(here, given.url)
    if len(await here.store.read(stored.by_project, who.project)) >= ENDPOINTS:
        raise Invalid("url", f"a project has at most {ENDPOINTS} webhooks")
    webhook = await here.store.write(stored.add, Webhook(
        number, who.project, url, wanted, given.description, True, _seal(here, number, secret), "", None, None, "0.0", 0, None, None, None, None,
        None, now))
    here.occurred()
    return {**shown(webhook), "signing_secret": secret}


@router.get("/webhooks")
async def list_webhooks(here: Core, who: Owner) -> Any:
    """List the project's endpoints."""
    return whole("webhooks", [shown(each) for each in await here.store.read(stored.by_project, who.project)])


@router.get("/webhooks/{webhook_id}")
async def get_webhook(here: Core, who: Owner, webhook_id: str) -> Any:
    """One endpoint and its health."""
    return shown(await here.store.read(stored.get, who.project, number_of(webhook_id)))


@router.patch("/webhooks/{webhook_id}")
async def change_webhook(here: Core, who: Owner, webhook_id: str, given: WebhookChange) -> Any:
    """Change an endpoint; `enabled: true` switches one on again that was switched off."""
    changes = {name: value for name, value in given.model_dump(exclude_unset=True).items() if value is not None}
    if "url" in changes:
        _url(here, changes["url"])
    if "events" in changes:
        changes["events"] = events.checked(changes["events"])
    number = number_of(webhook_id)
    if not changes:
        return shown(await here.store.read(stored.get, who.project, number))
    webhook = await here.store.write(stored.change, who.project, number, changes)
    here.occurred()
    return shown(webhook)


@router.delete("/webhooks/{webhook_id}")
async def delete_webhook(here: Core, who: Owner, webhook_id: str) -> Any:
    """Remove an endpoint and the record of its deliveries."""
    await here.store.write(stored.remove, who.project, number_of(webhook_id))
    here.occurred()
    return {"deleted": True}


@router.post("/webhooks/{webhook_id}/rotate-secret")
async def rotate_secret(here: Core, who: Owner, webhook_id: str, given: RotateInput | None = None) -> Any:
    """A new signing secret; the old one signs beside it for `grace_hours`."""
    number, now, secret = number_of(webhook_id), here.clock.now(), webhooks.new_secret()
    grace = (given or RotateInput()).grace_hours
    old = await here.store.read(stored.get, who.project, number)
    changes = {"secret": _seal(here, number, secret), "rotated_at": now, "previous_secret": old.secret if grace else "",
               "previous_until": now + grace * 3600.0 if grace else None}
    return {**shown(await here.store.write(stored.change, who.project, number, changes)), "signing_secret": secret}


@router.post("/webhooks/{webhook_id}/test")
async def test_webhook(here: Core, who: Owner, webhook_id: str) -> Any:
    """Send a `webhook.test` event now and say what the endpoint answered."""
    webhook = await here.store.read(stored.get, who.project, number_of(webhook_id))
    name, begun = ids.public("evt", here.maker.next()), here.clock.elapsed()
    body = {"id": name, "type": "webhook.test", "timestamp": iso(here.clock.now()), "data": {"webhook_id": webhook.public_id}}
    answer = await here.hooks.ask(webhook, name, orjson.dumps(body))
    took = round((here.clock.elapsed() - begun) * 1000)
    return {"success": answer.good, "status_code": answer.status, "response_time_ms": took, "response_body": answer.text}


@router.get("/webhooks/{webhook_id}/deliveries")
async def list_deliveries(here: Core, who: Owner, webhook_id: str, page: Paging) -> Any:
    """What was delivered, what waits and what was given up, newest first."""
    webhook = await here.store.read(stored.get, who.project, number_of(webhook_id))
    found = await here.store.read(stored.page, webhook.id, page)
    return listed("deliveries", found, page, _delivery)


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.public_id, "webhook_id": ids.public("wh", delivery.webhook_id), "event_type": delivery.type, "payload": orjson.loads(delivery.payload),
        "success": delivery.delivered_at is not None, "status_code": delivery.status, "response_body": delivery.answer, "attempts": delivery.attempts,
        "next_retry_at": iso(delivery.next_at), "delivered_at": iso(delivery.delivered_at), "created_at": iso(delivery.created_at),
    }


@router.post("/webhooks/{webhook_id}/deliveries/batch-replay")
async def replay_deliveries(here: Core, who: Owner, webhook_id: str, given: ReplayInput | None = None) -> Any:
    """Deliver again what was given up, oldest first."""
    given = given or ReplayInput()
    webhook = await here.store.read(stored.get, who.project, number_of(webhook_id))
    now = here.clock.now()
    replayed, remaining = await here.store.write(
        stored.replay_failed, webhook.id, now, now - given.within_minutes * 60.0, given.event_type, given.limit)
    here.occurred()
    return {"replayed": replayed, "remaining": remaining}


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(here: Core, who: Owner, webhook_id: str, delivery_id: str) -> Any:
    """Deliver one event again, whatever became of it."""
    webhook = await here.store.read(stored.get, who.project, number_of(webhook_id))
    await here.store.write(stored.replay, webhook.id, known("whd", delivery_id, "Delivery"), here.clock.now())
    here.occurred()
    return {"success": True}


