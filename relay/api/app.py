"""The native HTTP API as an ASGI application: its routes, its document at /openapi.json and /docs.

One file a resource; a new one is listed in ROUTERS. Only this package imports FastAPI, and `relay.app` imports this package when it serves HTTP, so commands
start without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic.alias_generators import to_snake
from starlette.routing import BaseRoute

from relay.api import (
    answering,
    audiences,
    broadcasts,
    bulk,
    contacts,
    domains,
    draft,
    drafting,
    emails,
    errors,
    events,
    exports,
    forms,
    imports,
    inbound,
    keys,
    performance,
    preview,
    project,
    properties,
    reports,
    segments,
    sending,
    suppression_rules,
    suppressions,
    templates,
    topics,
    validations,
    webhooks,
    workflows,
)
from relay.api.compat.plunk import app as plunk
from relay.api.compat.poststack import app as poststack
from relay.api.core import Json, Relay, taken

ROUTERS = (sending.router, preview.router, emails.router, events.router, exports.router, suppressions.router, suppression_rules.router, templates.router,
           domains.router, keys.router, webhooks.router, project.router, imports.router, bulk.router, contacts.router, properties.router, segments.router,
           audiences.router, topics.router, performance.router, broadcasts.router, inbound.router, answering.router, drafting.router, reports.router,
           validations.router, forms.router, workflows.router)
ABOUT = ("Send email and see what became of it. Authenticate with `Authorization: Bearer sk_...`. Errors are `{\"error\", \"code\"}`, on 422 with the "
         "`field` at fault; every answer has `X-Request-Id`.")
ERRORS = {
    "400": "The body is not JSON", "401": "No key, or not a living one", "422": "Invalid, or refused by a policy",
    "429": "A sending limit; see Retry-After", "503": "Not now; see Retry-After",
}
SENDING = (("/emails", "SendInput", "send_email", sending.send_one), ("/emails/send", "SendInput", "send_email_alias", sending.send_one),
           ("/emails/batch", "BatchInput", "send_batch", sending.send_batch))


def application(relay: Relay, others: Sequence[BaseRoute] = ()) -> FastAPI:
    """The application on a running relay.

    others  routes that are not the API's: probes, metrics, what mail readers click; they are not in the document
    """
    app = FastAPI(
        title="Relay", version="1", description=ABOUT, default_response_class=Json, redirect_slashes=False, redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.relay = relay
    app.router.routes.extend(taken(ROUTERS))
    app.router.routes.extend(others)
    errors.install(app)
    app.mount("/poststack", poststack.application(app))
    app.mount("/plunk", plunk.application(relay))
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = described()
            _spell(document)
            _add_sending(document)
            document["paths"]["/signup-forms/{form_id}/submit"] = {"post": forms.SUBMIT}
        return app.openapi_schema  # type: ignore[return-value]

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _spell(document: dict[str, Any]) -> None:
    """Name fields in the document as answers do, snake_case; that requests may spell them in camelCase too needs no second entry."""
    for schema in document["components"]["schemas"].values():
        found = schema.get("properties", {})
        schema["properties"] = {to_snake(name): {**each, "title": to_snake(name)} if name != to_snake(name) else each for name, each in found.items()}
        if "required" in schema:
            schema["required"] = [to_snake(name) for name in schema["required"]]


def _add_sending(document: dict[str, Any]) -> None:
    """Put the two routes that read their own body into the document."""
    schemas = document["components"]["schemas"]
    schema = draft.SendInput.model_json_schema(by_alias=False, ref_template="#/components/schemas/{model}")
    schema["properties"]["from"] = schema["properties"].pop("from_")
    schema["required"] = ["from", "to"]
    schemas.update(schema.pop("$defs", {}))
    schemas["SendInput"] = schema
    schemas["BatchInput"] = {
        "type": "object", "required": ["emails"],
        "properties": {"emails": {"type": "array", "minItems": 1, "maxItems": sending.BATCH, "items": {"$ref": "#/components/schemas/SendInput"}}}}
    for path, body, name, route in SENDING:
        document["paths"].setdefault(path, {})["post"] = {
            "tags": ["Emails"], "operationId": name, "summary": (route.__doc__ or "").partition(":")[0], "description": route.__doc__,
            "security": [{"HTTPBearer": []}],
            "parameters": [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": sending.HEADER_KEY}}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}},
            "responses": {"202": {"description": "Accepted and on disk", "content": {"application/json": {"schema": {"type": "object"}}}},
                          **{code: {"description": text} for code, text in ERRORS.items()}},
        }

