"""Every route of the live dialect: which native route answers it, and how that answer is told.

A `{ct}` in a path is a resource by its native prefix. Callers name it by its public id, contacts also as con_..., or by the number that lists show as `id`.
A row whose answer is None is a native answer as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.api.compat.poststack import shapes
from relay.api.compat.poststack.shapes import CONTACT, Row

Told = Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table.

    path     here; `native` where the native API has it elsewhere
    answer   the native answer's JSON in the words of this dialect
    reads    a native path whose answer is told instead, once the act is done
    whole    the native list is paged and this one is not: all its pages are read
    query    what is asked of the native route unless the caller says otherwise
    renamed  query names that differ: here to native
    refs     query names that take an id also as a number, with its prefix
    status   native statuses that have another number here
    parts    whether it also finds by parts of texts (relay.api.compat.poststack.parts)
    """

    method: str
    path: str
    answer: Told | None = None
    native: str = ""
    reads: str = ""
    whole: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[int, int] = field(default_factory=dict)
    parts: bool = False


def one(name: str, shape: Told) -> Told:
    """`{name: row}`."""
    return lambda found: {name: shape(found)}


def page(native: str, shape: Told) -> Told:
    """`{data, meta}`."""
    return lambda found: {"data": [shape(row) for row in found[native]], "meta": meta(found["pagination"])}


def every(native: str, live: str, shape: Told) -> Told:
    """`{live: rows}`, never paged."""
    return lambda found: {live: [shape(row) for row in found[native]]}


def meta(pagination: Row) -> dict[str, Any]:
    return {"page": pagination["page"], "perPage": pagination["per_page"], "total": pagination["total"], "totalPages": pagination["total_pages"]}


def done(found: Row) -> dict[str, Any]:
    """What an act without a row of its own answers; the native answer stands beside."""
    return {**found, "success": True}


def success(_found: Row) -> dict[str, Any]:
    return {"success": True}


def secret(found: Row) -> dict[str, Any]:
    return {"webhook": shapes.WEBHOOK.of(found), "signingSecret": found["signing_secret"]}


def deliveries(found: Row) -> dict[str, Any]:
    return {"deliveries": [shapes.DELIVERY.of(row) for row in found["deliveries"]], "pagination": meta(found["pagination"])}


def reports(found: Row) -> dict[str, Any]:
    return {"reports": [shapes.REPORT.of(row) for row in found["reports"]], "pagination": meta(found["pagination"])}


def stats(found: Row) -> dict[str, Any]:
    """As the routes answer, and beside it as the SDK's model has it."""
    totals, daily = shapes.camel(found["totals"]), found["daily"]
    passed, total = totals["passed"], totals["totalMessages"]
    return {"totals": totals, "daily": daily, "totalMessages": total, "failedMessages": totals["failed"], "passRate": passed / total if total else 0.0,
            "dailyStats": daily}


def source(row: Row) -> dict[str, Any]:
    return {**shapes.camel(row), "orgName": None, "count": row["total"], "passCount": row["passed"], "failCount": row["failed"]}


def topic(found: Row) -> dict[str, Any]:
    counts = {"subscriberCount": found["subscriber_count"], "unsubscribedCount": found["unsubscribed_count"]}
    return {"topic": shapes.TOPIC.of({name: value for name, value in found.items() if not name.endswith("_count")}), **counts}


def subscriptions(found: Row) -> dict[str, Any]:
    return {"subscriptions": [shapes.subscription(row) for row in found["subscriptions"] if shapes.said(row)]}


def resent(found: Row) -> dict[str, Any]:
    draft = shapes.broadcast(found["broadcast"])
    return {"broadcast": draft, "segment": found["segment"], "recipientCount": found["recipient_count"]}


def variant_stats(found: Row) -> dict[str, Any]:
    return {**shapes.camel(found), "variants": [shapes.camel(row) for row in found["variants"]]}


EMAILS = (
    Route("POST", "/emails"),
    Route("POST", "/emails/send"),
    Route("POST", "/emails/batch"),
    Route("POST", "/emails/preview"),
    Route("POST", "/emails/spam-preview"),
    Route("GET", "/emails", page("emails", shapes.email), refs={"domain_id": "dom"}, parts=True),
    Route("GET", "/emails/{em}", one("email", shapes.email)),
    Route("GET", "/emails/{em}/events", every("events", "events", shapes.event)),
    Route("GET", "/emails/{em}/insights", every("warnings", "warnings", shapes.insight)),
    Route("PATCH", "/emails/{em}", done),
    Route("POST", "/emails/{em}/cancel", done),
)
CONTACTS = (
    Route("POST", "/contacts", one("contact", CONTACT.of)),
    Route("GET", "/contacts", page("contacts", CONTACT.of)),
    Route("POST", "/contacts/import"),
    Route("GET", "/contacts/export"),
    Route("GET", "/contacts/by-email/{email}", one("contact", CONTACT.of)),
    Route("GET", "/contacts/{ct}", one("contact", CONTACT.of)),
    Route("PATCH", "/contacts/{ct}", one("contact", CONTACT.of)),
    Route("DELETE", "/contacts/{ct}", done),
    Route("POST", "/contacts/{ct}/unsubscribe", one("contact", CONTACT.of), reads="/contacts/{ct}"),
    Route("GET", "/contact-properties", every("properties", "properties", shapes.PROPERTY.of)),
    Route("POST", "/contact-properties", one("property", shapes.PROPERTY.of)),
    Route("PATCH", "/contact-properties/{prop}", one("property", shapes.PROPERTY.of)),
    Route("DELETE", "/contact-properties/{prop}", done),
    Route("GET", "/contact-properties/{prop}/option-usage"),
)
SEGMENTS = (
    Route("POST", "/segments", one("segment", shapes.segment)),
    Route("GET", "/segments", every("segments", "segments", shapes.segment), whole="segments"),
    Route("POST", "/segments/preview", lambda found: {"count": found["count"]}),
    Route("GET", "/segments/{seg}", one("segment", shapes.segment)),
    Route("PATCH", "/segments/{seg}", one("segment", shapes.segment)),
    Route("DELETE", "/segments/{seg}", done),
    Route("POST", "/segments/{seg}/contacts", lambda found: {"added": found["added"]}, status={404: 400}),
    Route("DELETE", "/segments/{seg}/contacts/{ct}", done),
    Route("GET", "/segments/{seg}/members", page("contacts", CONTACT.of), query={"per_page": "50"}),
    Route("GET", "/segments/{seg}/growth"),
    Route("GET", "/segments/{seg}/broadcasts", every("broadcasts", "broadcasts", shapes.broadcast)),
)
BROADCASTS = (
    Route("POST", "/broadcasts", one("broadcast", shapes.broadcast)),
    Route("GET", "/broadcasts", page("broadcasts", shapes.broadcast)),
    Route("GET", "/broadcasts/performance"),
    Route("GET", "/broadcasts/{brd}", one("broadcast", shapes.broadcast)),
    Route("PATCH", "/broadcasts/{brd}", one("broadcast", shapes.broadcast)),
    Route("POST", "/broadcasts/{brd}/send", success),
    Route("POST", "/broadcasts/{brd}/cancel", success),
    Route("POST", "/broadcasts/{brd}/test", done),
    Route("POST", "/broadcasts/{brd}/end-ab-test", success),
    Route("POST", "/broadcasts/{brd}/resend", resent),
    Route("GET", "/broadcasts/{brd}/variants", lambda found: {"variants": [shapes.camel(row) for row in found["variants"]]}),
    Route("GET", "/broadcasts/{brd}/variant-stats", variant_stats),
    Route("GET", "/broadcasts/{brd}/performance"),
    Route("GET", "/broadcasts/{brd}/non-openers"),
    Route("GET", "/broadcasts/{brd}/non-clickers"),
)
TOPICS = (
    Route("GET", "/subscription-topics", every("topics", "topics", shapes.TOPIC.of), whole="topics"),
    Route("POST", "/subscription-topics", one("topic", shapes.TOPIC.of)),
    Route("GET", "/subscription-topics/{top}", topic),
    Route("PATCH", "/subscription-topics/{top}", one("topic", shapes.TOPIC.of)),
    Route("DELETE", "/subscription-topics/{top}", done),
    Route("GET", "/subscription-topics/{top}/subscribers", page("subscribers", shapes.subscriber), query={"per_page": "50"}),
    Route("GET", "/subscription-topics/contacts/{ct}/subscriptions", subscriptions),
    Route("POST", "/subscription-topics/contacts/{ct}/subscriptions", one("subscription", shapes.subscription)),
    Route("DELETE", "/subscription-topics/contacts/{ct}/subscriptions/{top}", one("subscription", shapes.subscription)),
)
FORMS = (
    Route("GET", "/signup-forms", page("signup_forms", shapes.FORM.of)),
    Route("POST", "/signup-forms", one("signupForm", shapes.FORM.of)),
    Route("GET", "/signup-forms/{sf}", one("signupForm", shapes.FORM.of)),
    Route("PATCH", "/signup-forms/{sf}", one("signupForm", shapes.FORM.of)),
    Route("DELETE", "/signup-forms/{sf}", done),
    Route("POST", "/signup-forms/{sf}/submit"),
)
SUPPRESSIONS = (
    Route("GET", "/suppressions", page("suppressions", shapes.SUPPRESSION.of)),
    Route("POST", "/suppressions", success),
    Route("DELETE", "/suppressions/{email}", done),
)
TEMPLATES = (
    Route("POST", "/templates", one("template", shapes.TEMPLATE.of)),
    Route("GET", "/templates", page("templates", shapes.TEMPLATE.of)),
    Route("GET", "/templates/presets", every("presets", "data", shapes.same)),
    Route("POST", "/templates/presets/{preset}/use", one("template", shapes.TEMPLATE.of)),
    Route("GET", "/templates/{tpl}", one("template", shapes.TEMPLATE.of)),
    Route("PATCH", "/templates/{tpl}", one("template", shapes.TEMPLATE.of)),
    Route("DELETE", "/templates/{tpl}", done),
    Route("POST", "/templates/{tpl}/publish", one("template", shapes.TEMPLATE.of)),
    Route("POST", "/templates/{tpl}/unpublish", one("template", shapes.TEMPLATE.of)),
    Route("POST", "/templates/{tpl}/duplicate", one("template", shapes.TEMPLATE.of)),
    Route("POST", "/templates/{tpl}/render"),
)
WEBHOOKS = (
    Route("POST", "/webhooks", secret),
    Route("GET", "/webhooks", every("webhooks", "webhooks", shapes.WEBHOOK.of)),
    Route("GET", "/webhooks/{wh}", one("webhook", shapes.WEBHOOK.of)),
    Route("PATCH", "/webhooks/{wh}", one("webhook", shapes.WEBHOOK.of)),
    Route("DELETE", "/webhooks/{wh}", done),
    Route("POST", "/webhooks/{wh}/test"),
    Route("POST", "/webhooks/{wh}/rotate-secret", secret),
    Route("GET", "/webhooks/{wh}/deliveries", deliveries),
    Route("POST", "/webhooks/{wh}/deliveries/batch-replay"),
    Route("POST", "/webhooks/{wh}/deliveries/{whd}/replay"),
)
DOMAINS = (
    Route("POST", "/domains", one("domain", shapes.domain)),
    Route("GET", "/domains", every("domains", "domains", shapes.domain)),
    Route("GET", "/domains/{dom}", one("domain", shapes.domain)),
    Route("PATCH", "/domains/{dom}", one("domain", shapes.domain)),
    Route("DELETE", "/domains/{dom}", done),
    Route("POST", "/domains/{dom}/verify", lambda found: {"queued": True, "domain": shapes.domain(found)}),
    Route("POST", "/domains/{dom}/dkim/rotate", one("rotation", shapes.rotation)),
    Route("POST", "/domains/{dom}/dkim/rotate/activate", one("rotation", shapes.rotation)),
    Route("DELETE", "/domains/{dom}/dkim/rotate", one("rotation", shapes.rotation)),
    Route("GET", "/domains/{dom}/dmarc/reports", reports, renamed={"perPage": "per_page"}),
    Route("GET", "/domains/{dom}/dmarc/stats", stats),
    Route("GET", "/domains/{dom}/dmarc/sources", every("sources", "sources", source)),
)
KEYS = (
    Route("POST", "/api-keys", shapes.KEY.of),
    Route("GET", "/api-keys", every("api_keys", "keys", shapes.KEY.of)),
    Route("GET", "/api-keys/{key}", shapes.KEY.of),
    Route("PATCH", "/api-keys/{key}", shapes.KEY.of),
    Route("DELETE", "/api-keys/{key}", done),
    Route("POST", "/api-keys/{key}/rotate", shapes.KEY.of),
)
WORKFLOWS = (
    Route("GET", "/workflows", every("workflows", "data", shapes.WORKFLOW.of)),
    Route("POST", "/workflows", one("workflow", shapes.WORKFLOW.of)),
    Route("POST", "/workflows/events"),
    Route("GET", "/workflows/{wf}", one("workflow", shapes.WORKFLOW.of)),
    Route("PATCH", "/workflows/{wf}", one("workflow", shapes.WORKFLOW.of)),
    Route("DELETE", "/workflows/{wf}", done),
    Route("GET", "/workflows/{wf}/graph", one("graph", shapes.graph)),
    Route("PUT", "/workflows/{wf}/graph", one("graph", shapes.graph)),
    Route("POST", "/workflows/{wf}/validate"),
    Route("POST", "/workflows/{wf}/activate", one("workflow", shapes.WORKFLOW.of)),
    Route("POST", "/workflows/{wf}/pause", one("workflow", shapes.WORKFLOW.of)),
    Route("POST", "/workflows/{wf}/trigger", one("run", shapes.RUN.of)),
)
VALIDATIONS = (
    Route("POST", "/email-validations", shapes.validation),
    Route("POST", "/email-validations/batch", every("results", "results", shapes.validation)),
)
ROUTES = {"Emails": EMAILS, "Contacts": CONTACTS, "Segments": SEGMENTS, "Broadcasts": BROADCASTS, "Subscription topics": TOPICS, "Signup forms": FORMS,
          "Suppressions": SUPPRESSIONS, "Templates": TEMPLATES, "Webhooks": WEBHOOKS, "Domains": DOMAINS, "API keys": KEYS, "Workflows": WORKFLOWS,
          "Email validations": VALIDATIONS}

ABSENT = (("POST", "/domains/{dom}/ip"), ("DELETE", "/domains/{dom}/ip"), ("GET", "/domains/{dom}/placement"))  # a relay of one's own has neither
