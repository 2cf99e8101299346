"""Settings, webhooks: endpoints and their health, what was delivered to each, test and replay. A signing secret is shown once."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import webhooks
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError

PATH = "/dashboard/settings/webhooks"


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    return visit.show("settings/webhooks.html", error=error, **await webhooks.list_webhooks(visit.here, visit.who))


async def add(visit: Visit) -> Response:
    try:
        given = webhooks.WebhookInput(url=visit.given("url"), events=_names(visit), description=visit.given("description"))
        made = await webhooks.create_webhook(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return await _one(visit, made["id"], secret=made["signing_secret"])


def _names(visit: Visit) -> list[str]:
    """The events that were typed, apart by commas or spaces."""
    return visit.given("events").replace(",", " ").split() or ["*"]


async def one(visit: Visit) -> Response:
    return await _one(visit, visit.number("webhook_id"))


async def _one(visit: Visit, name: str, secret: str = "", told: Any = None, error: RelayError | None = None) -> Response:
    """An endpoint and its deliveries; `told` what it answered to a test."""
    webhook = await webhooks.get_webhook(visit.here, visit.who, name)
    found = await webhooks.list_deliveries(visit.here, visit.who, name, visit.page())
    return visit.show("settings/webhook.html", error=error, webhook=webhook, secret=secret, told=told, **found)


async def change(visit: Visit) -> Response:
    try:
        given = webhooks.WebhookChange(url=visit.given("url"), events=_names(visit), description=visit.given("description"), enabled=visit.ticked("enabled"))
        await webhooks.change_webhook(visit.here, visit.who, visit.number("webhook_id"), given)
    except (RelayError, ValidationError) as error:
        return await _one(visit, visit.number("webhook_id"), error=visit.wrong(error))
    return visit.go(_here(visit), "Saved.")


async def test(visit: Visit) -> Response:
    name = visit.number("webhook_id")
    return await _one(visit, name, told=await webhooks.test_webhook(visit.here, visit.who, name))


async def rotate(visit: Visit) -> Response:
    name = visit.number("webhook_id")
    made = await webhooks.rotate_secret(visit.here, visit.who, name)
    return await _one(visit, name, secret=made["signing_secret"])


async def replay(visit: Visit) -> Response:
    """One delivery, or all that were given up."""
    name, delivery = visit.number("webhook_id"), visit.given("delivery")
    if delivery:
        await webhooks.replay_delivery(visit.here, visit.who, name, delivery)
        return visit.go(_here(visit), "It is delivered again now.")
    done = await webhooks.replay_deliveries(visit.here, visit.who, name)
    rest = f", {done['remaining']:,} are left" if done["remaining"] else ""
    return visit.go(_here(visit), f"{done['replayed']:,} are delivered again now{rest}.")


async def remove(visit: Visit) -> Response:
    await webhooks.delete_webhook(visit.here, visit.who, visit.number("webhook_id"))
    return visit.go(PATH, "The webhook is gone.")


def _here(visit: Visit) -> str:
    return f"{PATH}/{visit.number('webhook_id')}"


_ONE = "/settings/webhooks/{webhook_id}"
ROUTES = (get("/settings/webhooks", every), post("/settings/webhooks", add), get(_ONE, one), post(_ONE, change), post(f"{_ONE}/test", test),
          post(f"{_ONE}/rotate", rotate), post(f"{_ONE}/replay", replay), post(f"{_ONE}/remove", remove))
