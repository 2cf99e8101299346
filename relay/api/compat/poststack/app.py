"""The live dialect as an ASGI application: each of its routes asks the native API in the same process and retells the answer.

    caller ──► Route ──► native application, same key, same body ──► answer ──► Route.answer ──► caller

Nothing is done here that the native API does not do: keys, limits, errors, idempotency and consent are its own. A request's body goes through as it comes, so
a large one is spooled as ever; only POST /api-keys is read, for a `domain_id` that is a number. Errors have the same shape in both dialects.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from relay.api import errors
from relay.api.compat import Counted
from relay.api.compat.poststack import parts, shapes, table
from relay.api.compat.poststack.native import Answer, Call, Through
from relay.api.compat.poststack.table import Route
from relay.api.core import Json, principal, relay
from relay.errors import NotFound, RelayError
from relay.mail import ids

PAGES = 100  # pages of 100 that a list without pages is gathered from
NUMBER = 19  # digits of an id at most
KEY = 65_536  # octets of a request for a key

ABOUT = ("The API of the live platform, for its official SDKs with another base URL: `PostStack(api_key=..., base_url=\"http://HOST/poststack\")`. "
         "Each route is the native one of the same name (see `/docs`), its answer in camelCase, `{data, meta}` or wrapped in the resource's name.\n\n"
         "Words that the SDK's enumerations do not have are mapped, and the native word stands beside as `relayStatus`, `relayPurpose` ...:\n\n"
         + "".join(f"- {kind}: {', '.join(f'`{native}` as `{live}`' for native, live in words.items())}\n" for kind, words in shapes.WORDS.items())
         + "\n`id` is a number of up to 63 bits, more than JavaScript keeps: `publicId` is taken wherever an id is. Fields of the platform that mean nothing "
         "on a relay of one's own are constant: `region`, `catchAll`, `tlsMode`, `streamPreference`. IP assignment and placement are 404 `not_supported`.")


def application(native: FastAPI) -> FastAPI:
    """The dialect's application in front of the native one."""
    app = FastAPI(title="Relay in the live PostStack dialect", version="1", description=ABOUT, redirect_slashes=False, redoc_url=None,
                  telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})
    app.state.relay, app.state.native = native.state.relay, native
    app.add_middleware(Counted, dialect="poststack")
    app.router.routes.extend(ROUTER.routes)

    @app.exception_handler(404)
    async def nothing(_request: Request, _error: Exception) -> Json:
        return Json({"error": "Not found", "code": "not_found"}, 404)

    @app.exception_handler(405)
    async def not_so(_request: Request, error: Any) -> Json:
        return Json({"error": "Method Not Allowed", "code": "method_not_allowed"}, 405, dict(error.headers or {}))

    return app


async def _absent() -> Json:
    return Json({"error": "Relay has no such feature: your mail leaves from your own address", "code": "not_supported"}, 404)


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            path = _path(route.native or route.path, request.path_params)
        except NotFound as error:
            return Json({"error": error.text, "code": error.code}, 404)
        call = Call(request.app.state.native, request.scope, request.receive)
        body = await _body(request) if (route.method, route.path) == ("POST", "/api-keys") else None
        if route.whole:
            return await _whole(call, route, path)
        if route.parts and parts.asked(request.query_params):
            return await _by_parts(route, request)
        if route.answer is None:
            return Through(call, route.method, path, _query(route, request))
        answer = await call.ask(route.method, path, _query(route, request), body)
        if answer.status < 300 and route.reads:
            answer = await call.ask("GET", _path(route.reads, request.path_params), "", b"")
        return _told(route, answer)

    return endpoint


def _router() -> APIRouter:
    router = APIRouter()
    for tag, routes in table.ROUTES.items():
        for route in routes:
            router.add_api_route(route.path, _endpoint(route), methods=[route.method], tags=[tag], name=f"{route.method} {route.path}",
                                 summary=f"{route.method} {route.native or route.path}", response_class=Json)
    for method, path in table.ABSENT:
        router.add_api_route(path, _absent, methods=[method], tags=["Domains"], include_in_schema=False)
    return router


ROUTER = _router()  # made once; every application takes the same


async def _whole(call: Call, route: Route, path: str) -> Response:
    """All pages of a native list as one."""
    rows: list[Any] = []
    query = "per_page=100"
    for _ in range(PAGES):
        answer = await call.ask("GET", path, query, b"")
        if answer.status >= 300:
            return _told(route, answer)
        found = answer.json()
        rows += found[route.whole]
        after = found["pagination"].get("next_cursor")
        if not after:
            break
        query = urlencode({"per_page": 100, "cursor": after})
    return Json(route.answer({route.whole: rows}))  # type: ignore[misc]


async def _by_parts(route: Route, request: Request) -> Response:
    """A list of emails by parts of texts, which natively does not exist."""
    try:
        query = dict(parse_qsl(_query(route, request)))
        return Json(route.answer(await parts.listed(relay(request), await principal(request), query)))  # type: ignore[misc]
    except RelayError as error:
        return errors.answer(error)


def _told(route: Route, answer: Answer) -> Response:
    if answer.status >= 300 or not answer.is_json:
        return Response(answer.body, route.status.get(answer.status, answer.status), answer.kept())
    return Json(route.answer(answer.json()), answer.status, answer.kept("content-type"))  # type: ignore[misc]


# Ids.


def _path(template: str, given: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: _public(given[match[1]], match[1]), template)


def _public(text: str, prefix: str) -> str:
    """The native id of what a path names; anything else stays as it is, for the native route to judge."""
    if text.isascii() and text.isdigit() and len(text) <= NUMBER and int(text) < 1 << 63:
        return text if prefix in ("email", "preset") else ids.public(prefix, int(text))
    if "/" in text:  # would be another route
        raise NotFound("Not found")
    return text


def _query(route: Route, request: Request) -> str:
    pairs = [(route.renamed.get(name, name), value) for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)]
    there = {name for name, _ in pairs}
    pairs = [(name, _public(value, route.refs[name]) if name in route.refs and "/" not in value else value) for name, value in pairs]
    return urlencode([*pairs, *((name, value) for name, value in route.query.items() if name not in there)])


async def _body(request: Request) -> bytes:
    """The body, with a domain that is named by its number named by its id."""
    octets = await request.body()
    try:
        given = orjson.loads(octets) if len(octets) <= KEY else None
    except orjson.JSONDecodeError:
        return octets
    if isinstance(given, dict) and isinstance(given.get("domain_id"), int) and 0 <= given["domain_id"] < 1 << 63:
        return orjson.dumps({**given, "domain_id": ids.public("dom", given["domain_id"])})
    return octets
