"""The Plunk dialect as an ASGI application: its routers, CORS for /v1, its errors, its own document at /plunk/openapi.json and /plunk/docs."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.api.compat import Counted
from relay.api.compat.plunk import (
    activity,
    analytics,
    bulk,
    campaigns,
    config,
    contacts,
    domains,
    errors,
    events,
    fields,
    forms,
    imports,
    segments,
    send,
    suppressions,
    templates,
    track,
    verify,
    workflows,
)
from relay.api.core import Json, Relay, taken

# Fixed paths before those with an id in their place.
ROUTERS = tuple(each.router for each in (
    track, send, verify, fields, imports, bulk, contacts, segments, templates, events, campaigns, domains, suppressions, forms, activity, analytics, config,
    workflows))
ABOUT = ("Relay for clients of Plunk, with `https://HOST/plunk` as base URL (`new Plunk(key, {baseUrl: \"https://HOST/plunk/v1/\"})`). Authenticate with "
         "`Authorization: Bearer sk_...`; a `sending_access` key may track and send. Contacts, segments and templates are the native ones: `data` are a "
         "contact's properties, `subscribed` the opposite of `unsubscribed`, ids look like `ct_...`. Ids are no secrets here, so Plunk's routes that need "
         "an id and no key, `/contacts/public/...`, are not served: `{{unsubscribeUrl}}`, `{{subscribeUrl}}` and `{{manageUrl}}` are signed.")
OPEN = ("/v1", "/forms/public/")  # what other sites' pages call
ORIGIN = (b"access-control-allow-origin", b"*")
ALLOWED = ((b"access-control-allow-methods", b"GET, POST, OPTIONS"), (b"access-control-allow-headers", b"authorization, content-type, idempotency-key"),
           (b"access-control-max-age", b"86400"))


def application(relay: Relay) -> ASGIApp:
    """The dialect's application on a running relay."""
    app = FastAPI(title="Relay in the Plunk dialect", version="1", description=ABOUT, default_response_class=Json, redirect_slashes=False, redoc_url=None,
                  telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})
    app.state.relay = relay
    app.router.routes.extend(taken(ROUTERS))
    errors.install(app)
    app.add_middleware(Anywhere)
    app.add_middleware(Counted, dialect="plunk")
    return app


class Anywhere:
    """Lets browsers of any origin use /v1, which pages track with, and the public forms. There are no cookies, so nobody's session is at stake."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].removeprefix(scope.get("root_path", "")).startswith(OPEN):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [ORIGIN, *ALLOWED]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), ORIGIN]
            await send(message)

        await self._app(scope, receive, answer)
