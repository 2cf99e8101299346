"""Errors as HTTP answers: `{"error": text, "code": stable}`, and on 422 the field at fault. The one place where an error meets a status.

    400  the body is not JSON             403  the key may not do this      410  expired        429  a limit; Retry-After says when
    401  no key, or not a living one      404  not in this project          413  too large      503  not now; Retry-After too
                                          409  exists, or state forbids     422  invalid, refused by a policy

Faults of our own are 500 with nothing but a request id, which the log has too.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic.alias_generators import to_snake
from starlette.exceptions import HTTPException
from starlette.routing import Match

from relay import log
from relay.api.core import Json
from relay.errors import Conflict, Defer, Expired, Forbidden, Invalid, Malformed, NotFound, Refuse, RelayError, StoreError, Unauthorized

RETRY_AFTER = 5  # seconds a client should leave us alone when we cannot say better
LIMITED = "rate_limit_exceeded"

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
NAMES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}

NO_OBJECT = ("missing", "model_attributes_type", "model_type", "dict_type")  # how the library calls a body that is none, text or a form among them

LOG = log.get("api")

STATUS: tuple[tuple[type[RelayError], int], ...] = (
    (Malformed, 400), (Unauthorized, 401), (Forbidden, 403), (NotFound, 404), (Conflict, 409), (Expired, 410), (Invalid, 422), (Refuse, 422),
    (StoreError, 503), (Defer, 503),
)


def status(error: RelayError) -> int:
    if isinstance(error, Defer) and error.code == LIMITED:
        return 429
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


def body(error: RelayError) -> dict[str, Any]:
    """The error as an element of an answer says it."""
    out = {"error": error.text, "code": error.code}
    if isinstance(error, Invalid):
        out["field"] = error.field
        if error.faults:
            out["errors"] = [fault.shown for fault in error.faults]
    return out


def answer(error: RelayError) -> Json:
    headers = {}
    code = status(error)
    if code in (429, 503):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after))) if isinstance(error, Defer) else str(RETRY_AFTER)
    if code == 429:
        headers |= {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": headers["Retry-After"]}
    if code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json(body(error), code, headers)


def invalid(error: ValidationError | RequestValidationError, places: Sequence[str] = ("body", "query", "path", "header")) -> Invalid:
    """The first thing wrong with some input, as the Invalid that names it: `attachments[0].content`, `per_page`."""
    first = error.errors()[0]
    if tuple(first["loc"]) == ("body",) and first["type"] in NO_OBJECT:
        return Invalid("body", "body: send a JSON object, with the header Content-Type: application/json")
    path = [part for part in first["loc"] if part not in places] if len(first["loc"]) > 1 else list(first["loc"])
    if first["type"] == "missing" and path and isinstance(path[-1], str):
        path[-1] = to_snake(path[-1])  # nobody has spelled it yet, so it is named as the document names it
    field = ""
    for part in path:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    text = first["msg"].removeprefix("Value error, ").replace(" after validation", "")  # the library's words for its own work
    return Invalid(field or "body", f"{field or 'body'}: {text[0].lower()}{text[1:]}")


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that some route takes for this path (RFC 9110 §15.5.6); the framework names those of the first that knows the path."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)]


def install(app: FastAPI) -> None:
    """Make every error of the application one of these answers."""

    @app.exception_handler(RelayError)
    async def relay_error(_request: Request, error: RelayError) -> Json:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_request: Request, error: RequestValidationError) -> Json:
        if any(each["type"] == "json_invalid" for each in error.errors()):
            return answer(Malformed())
        return answer(invalid(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Json:
        code, headers = NAMES.get(error.status_code, "error"), dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request)) or headers.get("Allow", "")
        return Json({"error": str(error.detail), "code": code}, error.status_code, headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Json:
        number = request.scope.get("state", {}).get("request_id")
        LOG.error("request failed", path=request.url.path, request_id=number, exception="".join(traceback.format_exception(error)))
        return Json({"error": "something went wrong here; the log has more under this request id", "code": "internal_error"}, 500)
