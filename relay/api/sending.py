"""POST /emails, /emails/send, /emails/batch: requests read and answered; relay.api.outbox is what happens between.

The two routes read their body themselves, since FastAPI's way costs as much as all the rest; they are in the OpenAPI document like every other.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from relay.api import errors, limits, outbox
from relay.api.core import Json, principal, relay, resource
from relay.api.draft import SendInput
from relay.api.outbox import Asked
from relay.errors import Invalid, Malformed, Refuse, RelayError
from relay.mail.reply import Reply
from relay.metrics import counter

BATCH = 100  # emails of one request
HEADER_KEY = 255  # characters of an Idempotency-Key field
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, not an escaped backslash before "u0000"
REPLAY = {"X-Idempotent-Replay": "true"}

INJECTED = counter("http_inject_requests_total", "Requests that hand over mail (POST /emails, /emails/send, /emails/batch), by the status of their answer",
                   "code")

router = resource("Emails")
Route = Callable[[Request], Awaitable[Json]]


def counted(route: Route) -> Route:
    """The route, its answers counted: 499 for a client who went before its request was whole, 500 for a fault of ours."""

    @wraps(route)
    async def answered(request: Request) -> Json:
        try:
            answer = await route(request)
        except Exception as error:
            INJECTED.labels("499" if isinstance(error, ClientDisconnect) else "500").inc()
            raise
        INJECTED.labels(str(answer.status_code)).inc()
        return answer

    return answered


def parsed(octets: bytes | Any) -> Any:
    """The JSON of a body, or of a large one that was parsed already; raises Malformed, or Invalid for a NUL in any text, which no column takes."""
    if not isinstance(octets, bytes):
        return octets
    if b"\\u0000" in octets and _NUL.search(octets):
        raise Invalid("body", "a text contains a NUL")
    try:
        return orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise Malformed from None


def shaped(value: Any) -> SendInput:
    """Raises Invalid naming the field at fault. A field that is null is one that was left out, as some clients write it."""
    try:
        return SendInput.model_validate(value)
    except ValidationError as error:
        if not isinstance(value, dict):
            raise Invalid("body", "an email is a JSON object") from None
        said = {name: each for name, each in value.items() if each is not None}
        if len(said) < len(value):
            return shaped(said)
        raise errors.invalid(error) from None


def _header_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if len(key) > HEADER_KEY:
        raise Invalid("Idempotency-Key", f"Idempotency-Key has at most {HEADER_KEY} characters")
    return key


@counted
async def send_one(request: Request) -> Json:
    """Send a single email: sender names, CC/BCC, attachments, scheduling, templates, idempotency keys."""
    try:
        here, who = relay(request), await principal(request)
        async with here.spool.body(request) as body:
            answer = await outbox.send(here, who, outbox.asked(shaped(parsed(body)), _header_key(request)), _client(request))
        room = await limits.headers(here, who)
    except RelayError as error:
        return errors.answer(error)
    return Json(answer, 202, {**room, **(REPLAY if answer.get("replayed") else {})})


@counted
async def send_batch(request: Request) -> Json:
    """Send up to 100 emails in a single request, each independent of the others: an element that fails says why in its place."""
    try:
        here, who = relay(request), await principal(request)
        async with here.spool.body(request) as body:
            key = _header_key(request)
            wanted = [_asked(row, f"{key}#{number}" if key else "") for number, row in enumerate(_rows(parsed(body)))]
            data = [errors.body(each) if isinstance(each, RelayError) else each for each in await outbox.send_many(here, who, wanted, _client(request))]
        room = await limits.headers(here, who)
    except RelayError as error:
        return errors.answer(error)
    return Json({"data": data}, 202, {**room, **(REPLAY if all(each.get("replayed") for each in data) else {})})


def _rows(given: Any) -> list[Any]:
    """The emails of a batch; raises Invalid or Refuse."""
    rows = given.get("emails") if isinstance(given, dict) else None
    if not isinstance(rows, list) or not rows:
        raise Invalid("emails", "emails is a list of 1 to 100 emails")
    if len(rows) > BATCH:
        raise Refuse(Reply(552, "5.3.4", "Batch size exceeds limit"), "batch_too_large")
    return rows


def _asked(row: Any, header_key: str) -> Asked | RelayError:
    try:
        return outbox.asked(shaped(row), header_key)
    except RelayError as error:
        return error


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


for path in ("/emails", "/emails/send"):
    router.add_route(path, send_one, methods=["POST"])
router.add_route("/emails/batch", send_batch, methods=["POST"])
