"""Errors in Plunk's envelope: `{success: false, error: {code, message, statusCode, requestId, errors?, details?}, message, timestamp}`.

`message` stands at the top too, where clients of the first version look. The routes of LEGACY say a missing field in the words of old: 400
`{"error": "Email is required"}`.
"""

from __future__ import annotations

import traceback
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from relay import log
from relay.api import errors as native
from relay.api.core import Json, relay
from relay.clock import iso
from relay.errors import Conflict, Defer, Invalid, Malformed, NotFound, RelayError

CODES = {400: "BAD_REQUEST", 401: "INVALID_API_KEY", 403: "FORBIDDEN", 404: "RESOURCE_NOT_FOUND", 405: "BAD_REQUEST", 409: "CONFLICT",
         410: "RESOURCE_NOT_FOUND", 413: "INVALID_REQUEST_BODY", 415: "INVALID_REQUEST_BODY", 422: "VALIDATION_ERROR", 429: "RATE_LIMIT_EXCEEDED",
         500: "INTERNAL_SERVER_ERROR", 503: "DATABASE_ERROR"}
NOUNS = ("Contact", "Template", "Campaign", "Workflow")  # that have a NOT_FOUND of their own
LEGACY = frozenset({("POST", "/contacts"), ("POST", "/templates"), ("POST", "/segments")})
FORBIDDEN = frozenset({"domain_not_verified"})  # refusals that are a 403 here
WORDS = {"rules": "condition", "properties": "data", "html": "body"}  # what native fields are called here
TOLD = 20  # faults of one request that are named

LOG = log.get("plunk")


class Bad(Invalid):
    """Input that is a 400 here, not a 422."""


class Reserved(Invalid):
    """A name that only the system may use."""

    reason = "reserved_event"


class Reused(Conflict):
    """An Idempotency-Key that was used before; `details` says for what and when."""

    def __init__(self, details: dict[str, Any]):
        super().__init__("This Idempotency-Key was used before", code="IDEMPOTENCY_KEY_REUSED")
        self.details = details


def status(error: RelayError) -> int:
    if isinstance(error, Bad):
        return 400
    return 403 if error.code in FORBIDDEN else native.status(error)


def spelled(field: str) -> str:
    """The field as this dialect calls it: condition.groups[0] for rules.groups[0]."""
    for name, here in WORDS.items():
        if field == name or field.startswith((f"{name}.", f"{name}[")):
            return here + field[len(name):]
    return field


def answer(request: Request, error: RelayError) -> Json:
    number, text, more = status(error), error.text, {}
    code = CODES.get(number, "INTERNAL_SERVER_ERROR")
    if isinstance(error, NotFound) and text.partition(" ")[0] in NOUNS:
        code = f"{text.partition(' ')[0].upper()}_NOT_FOUND"
    if isinstance(error, Malformed):
        code = "VALIDATION_ERROR"
    if number == 401 and text.startswith("Missing"):
        code = "MISSING_AUTH"
    if isinstance(error, Invalid):
        field = spelled(error.field)
        text = text.replace(error.field, field, 1) if field != error.field else text
        more["errors"] = [{"field": field, "message": text, "code": getattr(error, "reason", "invalid")}]
        if error.faults:
            more["errors"] = [{"field": each.node or each.field, "message": each.text, "code": each.code} for each in error.faults[:TOLD]]
    if isinstance(error, Reused):
        code, more["details"] = error.code, error.details
    return _told(request, number, code, text, more, _headers(number, error))


def _headers(number: int, error: RelayError) -> dict[str, str]:
    if number not in (429, 503):
        return {"WWW-Authenticate": "Bearer"} if number == 401 else {}
    wait = str(max(1, ceil(error.retry_after)) if isinstance(error, Defer) else native.RETRY_AFTER)
    return {"Retry-After": wait, **({"RateLimit-Remaining": "0", "RateLimit-Reset": wait} if number == 429 else {})}


def _told(request: Request, number: int, code: str, text: str, more: dict[str, Any], headers: dict[str, str]) -> Json:
    error = {"code": code, "message": text, "statusCode": number, "requestId": request.scope.get("state", {}).get("request_id"), **more}
    return Json({"success": False, "error": error, "message": text, "timestamp": iso(relay(request).clock.now())}, number, headers)


def _invalid(request: Request, error: RequestValidationError) -> Json:
    """Everything that is wrong with a request, up to TOLD."""
    faults = error.errors()
    if any(each["type"] == "json_invalid" for each in faults):
        return answer(request, Malformed())
    found = [native.invalid(RequestValidationError([each])) for each in faults[:TOLD]]
    missing = next((each.field for each, fault in zip(found, faults, strict=False) if fault["type"] == "missing"), None)
    if missing and (request.method, request.scope["path"].removeprefix(request.scope.get("root_path", ""))) in LEGACY:
        text = f"{missing[0].upper()}{missing[1:]} is required"
        return Json({"error": text, "message": text}, 400)
    errors = [{"field": each.field, "message": each.text, "code": fault["type"]} for each, fault in zip(found, faults, strict=False)]
    return _told(request, 422, "VALIDATION_ERROR", found[0].text, {"errors": errors}, {})


def install(app: FastAPI) -> None:
    """Make every error of the application one of these answers."""

    @app.exception_handler(RelayError)
    async def relay_error(request: Request, error: RelayError) -> Json:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Json:
        return _invalid(request, error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Json:
        code = CODES.get(error.status_code, "BAD_REQUEST")
        return _told(request, error.status_code, code, str(error.detail), {}, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Json:
        number = request.scope.get("state", {}).get("request_id")
        LOG.error("request failed", path=request.url.path, request_id=number, exception="".join(traceback.format_exception(error)))
        return _told(request, 500, "INTERNAL_SERVER_ERROR", "something went wrong here; the log has more under this request id", {}, {})
