"""The step that asks a URL: at least once, with an Idempotency-Key that is the same for every try of this step of this run.

A 2xx leads on by `match`. No answer, 408, 425, 429 and 5xx are tried again after PAUSES; then, and for every other status at once, the run goes on by
`no_match`. Redirects are answers like others, but for workflows of the Plunk dialect, which go on up to REDIRECTS of them (contract §26). Private addresses are
refused on the socket (relay.fetch), also those that a redirect leads to, and nothing of the answer is kept but its status.
"""

from __future__ import annotations

from typing import Any

import orjson

from relay.clock import iso
from relay.errors import Invalid
from relay.fetch import Fetch
from relay.store import bulk
from relay.workflows.advance import CALLED, Done, context, filled
from relay.workflows.letters import Work
from relay.workflows.steps import MATCH, NO_MATCH, Call, sound

TIMEOUT = 10.0  # seconds for everything of one request
PAUSES = (10.0, 60.0, 300.0, 1_800.0, 3_600.0)  # seconds before each further try
REDIRECTS = 5  # that a workflow of the Plunk dialect follows
AGAIN = frozenset({408, 425, 429})
BODIES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LARGEST = 262_144  # octets of a request's body


def request(work: Work) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Method, URL, body and fields of the request; raises Invalid for what the contact's values make of it."""
    step: Call = work.step
    variables = context(work.flow, work.run, work.contact)
    url = str(filled(step.url, variables)).strip()
    if not sound(url):
        raise Invalid("url", f"{url[:80]!r} is not an http or https URL")
    given = {name: " ".join(str(filled(value, variables)).split()) for name, value in step.headers.items()}
    body, kind = None, "application/json"
    if step.method in BODIES:
        said = default(work) if step.body is None else filled(step.body, variables)
        body, kind = (said.encode(), "text/plain; charset=utf-8") if isinstance(said, str) else (bulk.json(said).encode(), kind)
        if len(body) > LARGEST:
            raise Invalid("body", f"the body has more than {LARGEST} octets")
    fields = {"User-Agent": "Relay-Workflows/1", **({"Content-Type": _kind(body, kind)} if body is not None else {})}
    theirs = {name.lower() for name in given}
    fields = {name: value for name, value in fields.items() if name.lower() not in theirs}
    return step.method, url, body, {**fields, **given, "Idempotency-Key": f"{work.run.public_id}.{work.run.node}"}


def _kind(body: bytes | None, otherwise: str) -> str:
    """A text that is JSON is said to be."""
    try:
        orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return otherwise
    return "application/json"


def default(work: Work) -> dict[str, Any]:
    """What is told where the step says nothing."""
    run, contact, flow = work.run, work.contact, work.flow
    event = {"name": run.event.get("type"), "data": run.event.get("data") or {}, "timestamp": iso(run.event.get("at"))}
    return {"contact": {"id": contact.public_id, "email": contact.email, "subscribed": not contact.unsubscribed, "data": contact.properties},
            "workflow": {"id": flow.public_id, "name": flow.name}, "execution": {"id": run.public_id, "startedAt": iso(run.started_at)}, "event": event}


async def called(fetch: Fetch, work: Work, now: float) -> Done:
    """What the endpoint said."""
    try:
        method, url, body, fields = request(work)
    except Invalid as error:
        return Done("failed", {"reason": error.text}, NO_MATCH)
    try:
        status, _ = await fetch.request(method, url, body, fields, TIMEOUT, REDIRECTS if work.flow.dialect == "plunk" else 0)
    except TimeoutError:
        return _again(work, {"reason": f"no answer within {TIMEOUT:g} s"}, now)
    except OSError as error:
        return _again(work, {"reason": str(error)[:200]}, now)
    if 200 <= status < 300:
        return Done(CALLED, {"status": status, "tries": work.run.attempts + 1}, MATCH)
    told = {"status": status, "reason": f"it answered {status}"}
    return _again(work, told, now) if status >= 500 or status in AGAIN else Done("failed", told, NO_MATCH)


def _again(work: Work, told: dict[str, Any], now: float) -> Done:
    tries = work.run.attempts
    if tries < len(PAUSES):
        return Done(detail=told, later=now + PAUSES[tries])
    return Done("failed", {**told, "tries": tries + 1}, NO_MATCH)
