"""The dashboard as routes: for each page, who asks, whether they may, their form, and the headers of the answer.

    routes(house)    what the admin listener serves under /dashboard

Nobody is told what exists: without a session every page leads to the sign-in, and what belongs to another project is not found. Scripts come from our own files
only; nothing of a page may be framed elsewhere or kept in a cache.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from relay import log
from relay.api.core import Relay
from relay.capture import Capture
from relay.clock import Clock
from relay.control import users
from relay.control.sites import Looks
from relay.dashboard import rooms, view
from relay.dashboard import session as sessions
from relay.dashboard.session import KEY, USER, Session
from relay.dashboard.visit import ANYBODY, OWNER, SENDER, Entry, Visit
from relay.errors import Forbidden, Invalid, NotFound, RelayError
from relay.mail.message import Principal
from relay.mail.tokens import Tokens
from relay.metrics import histogram
from relay.smtp.auth import Guard

FIELDS = 2_000  # of a form: rules of 200 conditions have up to six each
FILES = 1
PART = 1_000_000  # octets of a field
YEAR = "public, max-age=31536000, immutable"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
                               "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Robots-Tag": "noindex, nofollow", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "same-origin",
}

LOG = log.get("dashboard")
SECONDS = histogram("dashboard_request_seconds", "From a request to the dashboard to its answer", "page")


@dataclass(slots=True)
class House:
    """What the pages need of a relay.

    here     the parts that the API's functions take
    tokens   sign cookies and forms
    guard    counts failed sign-ins by address
    capture  the laptop's capture server, or None
    looks    what each project's queue looked like last
    """

    here: Relay
    tokens: Tokens
    guard: Guard = field(default_factory=Guard)
    capture: Capture | None = None
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        self.looks = Looks(self.here.control)

    @property
    def clock(self) -> Clock:
        return self.here.clock

    async def principal(self, session: Session | None) -> Principal | None:
        """Whom the session proves now: nobody once its key is revoked, its user gone or the password another."""
        if session is None:
            return None
        if session.kind == KEY:
            return await self.here.keeper.holder(session.number)
        if session.kind == USER:
            user = await users.still(self.here.control, session.number)
            return users.principal(user) if user is not None and sessions.stamp(user.password) == session.stamp else None
        return None

    def navigation(self, visit: Visit) -> list[dict[str, Any]]:
        """The rooms that this visitor may enter, those of settings below them."""
        return rooms.navigation(visit, self.capture is not None)


def routes(house: House) -> list[Route]:
    """Every page, the static files, and a page for what is not there."""
    served = [Route(f"/dashboard{entry.path}", _route(house, entry), methods=[entry.method]) for entry in rooms.entries()]
    missing = Entry("GET", "/{rest:path}", _missing, SENDER)
    return [*served, Route("/dashboard/static/{name}", _static, methods=["GET"]), Route("/dashboard/{rest:path}", _route(house, missing), methods=["GET"])]


async def _missing(_visit: Visit) -> Response:
    raise NotFound("there is no such page")


async def _static(request: Request) -> Response:
    found = view.assets().get(request.path_params["name"])
    if found is None:
        return PlainTextResponse("not found", 404)
    return Response(found[0], media_type=found[1], headers={"Cache-Control": YEAR, "Cross-Origin-Resource-Policy": "same-origin"})


def _route(house: House, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    """The page as a route, with whatever goes wrong said on a page."""
    measured = SECONDS.labels(f"{entry.method} {entry.path or '/'}").observe

    async def answer(request: Request) -> Response:
        began = house.clock.elapsed()
        visit = Visit(request, house, None, sessions.of(house.tokens, request))
        try:
            response = await _answered(visit, entry)
        except (RelayError, ValidationError) as error:
            response = visit.show("error.html", error=visit.wrong(error))
        except Exception:
            number = request.scope.get("state", {}).get("request_id")
            LOG.error("page failed", path=request.url.path, request_id=number, exception=traceback.format_exc())
            response = visit.show("fault.html", code=500, number=number)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        took = house.clock.elapsed() - began
        response.headers["Server-Timing"] = f"total;dur={took * 1000:.1f}"
        measured(took)
        return response

    return answer


async def _answered(visit: Visit, entry: Entry) -> Response:
    if "\0" in visit.request.url.path or b"\0" in visit.request.scope["path"].encode():
        raise NotFound("there is no such page")
    visit.who = await visit.house.principal(visit.session)
    if visit.who is None:
        visit.session = None
    if visit.who is None and entry.may != ANYBODY:
        return _to_sign_in(visit)
    if entry.method == "POST":
        visit.form = await _form(visit.request, entry.body)
        sessions.check(visit.house.tokens, visit.session, visit.request, visit.given("token"))
    if entry.may == OWNER and not visit.owner:
        raise Forbidden("this key sees mail only; sign in with a full_access key, or as a user who has one's rights")
    return await entry.act(visit)


def _to_sign_in(visit: Visit) -> Response:
    """The sign-in page, which leads back to where a GET was going; a part of a page tells htmx to load that whole."""
    path = visit.request.url.path
    query = f"?{visit.request.url.query}" if visit.request.url.query else ""
    place = "/dashboard/sign-in" + (f"?next={quote(path + query)}" if visit.request.method == "GET" and path != "/dashboard" and not visit.live else "")
    return Response(status_code=204, headers={"HX-Redirect": place}) if visit.live else RedirectResponse(place, 303)


async def _form(request: Request, most: int) -> FormData:
    """The form, read within `most` octets; raises Invalid."""
    declared = request.headers.get("content-length", "")
    if not declared.isdigit():
        raise Invalid("body", "the form does not say how long it is (Content-Length)")
    if int(declared) > most:
        raise Invalid("body", f"the form has {int(declared):,} bytes, at most {most:,} are taken here")
    try:
        return await request.form(max_files=FILES, max_fields=FIELDS, max_part_size=PART)
    except Exception as error:  # a multipart that is none; the parser's errors have no common base
        raise Invalid("body", "the form cannot be read; load the page again and repeat it") from error
