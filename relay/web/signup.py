"""Signup forms as visitors meet them: a page, an address for scripts, and the confirmation of a double opt-in.

    GET  /f/ID                       200 the form as a page, in the project's language
    POST /f/ID                       200 a word of thanks, or 303 to the form's redirect_url; 422 the page again, saying what is wrong
    POST /signup-forms/ID/submit     the same for scripts of any origin: {success, message, redirect_url}; a browser that posts a form gets pages here too
    GET  /f/confirm/TOKEN            200 asks and never acts; 410 expired, 404 forged or the form is closed
    POST /f/confirm/TOKEN            200 signed up, or 303 to redirect_url

A visitor is led to the address that the project configured and to no other. Nothing reads or sets a cookie, so any origin may post.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from relay.audience import values
from relay.audience.signups import NAMES, TRAP, Answer, Signups
from relay.errors import Defer, Expired, Invalid, Malformed, NotFound, RelayError
from relay.mail import ids
from relay.policy import Sender
from relay.store.audience import forms
from relay.store.audience.forms import Form
from relay.web import pages, people
from relay.web.people import People

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST, OPTIONS", "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": "86400"}
STATUS: tuple[tuple[type[RelayError], int], ...] = ((Malformed, 400), (NotFound, 404), (Expired, 410), (Invalid, 422))
RETRY_AFTER = 60  # seconds, where nothing better is known

Page = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Signup:
    """The routes."""

    people: People

    def routes(self) -> list[Route]:
        return [
            Route("/f/confirm/{token}", _guarded(self.ask), methods=["GET"]), Route("/f/confirm/{token}", _guarded(self.confirm), methods=["POST"]),
            Route("/f/{form_id}", _guarded(self.show), methods=["GET"]), Route("/f/{form_id}", _guarded(self.post), methods=["POST"]),
            Route("/signup-forms/{form_id}/submit", self.submit, methods=["POST", "OPTIONS"]),
        ]

    @property
    def _signups(self) -> Signups:
        here = self.people
        return Signups(here.store, here.services, here.maker, here.door, here.occurred)

    async def show(self, request: Request) -> Response:
        form = await self.people.store.read(forms.living, _id(request))
        return self._page(form, await self._sender(form), {})

    async def post(self, request: Request) -> Response:
        given = await _posted(request)
        try:
            answer = await self._signups.submit(_id(request), given, self.people.act(request, "page"))
        except Invalid as error:
            form = await self.people.store.read(forms.living, _id(request))
            return self._page(form, await self._sender(form), given, error)
        return self._thanks(answer, await self._sender(answer.form))

    async def submit(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(None, 204, CORS)
        if _posts(request) and "text/html" in request.headers.get("accept", ""):
            return await _guarded(self.post)(request)
        try:
            answer = await self._signups.submit(_id(request), await _given(request), self.people.act(request, "page"))
        except RelayError as error:
            return _json(_told(error), _status(error), _wait(error))
        said = pages.words((await self._sender(answer.form)).language)
        told = {"success": True, "message": answer.message or said["inbox" if answer.pending else "welcome"]}
        return _json(told | ({"redirect_url": answer.form.redirect_url} if answer.form.redirect_url and not answer.pending else {}), 200, {})

    async def ask(self, request: Request) -> Response:
        token = request.path_params["token"]
        found = await self._signups.pending(token)
        sender = await self._sender(found.form, found.given["email"])
        said = pages.words(sender.language)
        body = pages.paragraph(said["confirm_ask"].format(address=found.given["email"])) + pages.form(f"/f/confirm/{token}", said["confirm"])
        return pages.page(sender.language, found.form.name, body, pages.footer(sender), target=_origin(found.form))

    async def confirm(self, request: Request) -> Response:
        found = await self._signups.confirm(request.path_params["token"], self.people.act(request, "page"))
        return self._thanks(Answer(found.form, False), await self._sender(found.form, found.given["email"]))

    async def _sender(self, form: Form, email: str = "") -> Sender:
        senders = self.people.services.senders
        return await senders.of(form.project_id, values.key(email) if email else "") if senders else Sender()

    @staticmethod
    def _thanks(answer: Answer, sender: Sender) -> Response:
        form, said = answer.form, pages.words(sender.language)
        if form.redirect_url and not answer.pending:
            return RedirectResponse(form.redirect_url, 303, {"Cache-Control": "no-store"})
        text = answer.message or said["inbox" if answer.pending else "welcome"]
        return pages.page(sender.language, form.name, pages.paragraph(text, "status"), pages.footer(sender))

    @staticmethod
    def _page(form: Form, sender: Sender, given: Mapping[str, Any], error: Invalid | None = None) -> Response:
        said = pages.words(sender.language)
        asked = form.fields if any(field["name"] == "email" for field in form.fields) else [_email(said), *form.fields]
        name = "" if error is None else next((field["label"] for field in asked if error.field.endswith(field["name"])), error.field)
        alert = pages.paragraph(said["check"].format(field=name), "alert") if error else ""
        inputs = "".join(_input(field, str(given.get(field["name"]) or ""), said) for field in asked)
        trap = (f'<p class="away" aria-hidden="true"><label>{escape(said["empty"])}<input name="{TRAP}" tabindex="-1" autocomplete="off"></label></p>')
        body = alert + pages.form(f"/f/{form.public_id}", said["signup"], fields=inputs + trap)
        return pages.page(sender.language, form.name, body, pages.footer(sender), 422 if error else 200, _origin(form))


def _guarded(page: Page) -> Page:
    """The page, with what is wrong said on one."""

    async def route(request: Request) -> Response:
        try:
            return await page(request)
        except (NotFound, Expired) as error:
            return people.sorry(request, "expired" if isinstance(error, Expired) else "unknown", _status(error))
        except RelayError as error:
            answer = people.sorry(request, "often" if _status(error) == 429 else "later", _status(error))
            answer.headers.update(_wait(error))
            return answer

    return route


def _email(said: Mapping[str, str]) -> dict[str, Any]:
    return {"name": "email", "type": "email", "label": said["email"], "required": True}


def _input(field: Mapping[str, Any], value: str, said: Mapping[str, str]) -> str:
    """One question with its label; everything in it was written by the project or the visitor and is escaped."""
    name, label = escape(field["name"]), escape(field["label"])
    needed = " required" if field.get("required") else ""
    hint = "" if needed else f' <small>({escape(said["optional"])})</small>'
    if field["type"] == "checkbox":
        ticked = " checked" if value else ""
        return f'<label class="beside"><input type="checkbox" name="{name}" value="on"{needed}{ticked}>{label}</label>'
    if field["type"] == "select":
        options = "".join(f'<option value="{escape(each)}"{" selected" if each == value else ""}>{escape(each)}</option>' for each in field["options"])
        return f'<label>{label}{hint}<select name="{name}"{needed}><option value=""></option>{options}</select></label>'
    kind = "email" if field["type"] == "email" else "text"
    known = {"email": "email", "first_name": "given-name", "last_name": "family-name"}.get(field["name"], "on") if field["name"] in NAMES else "on"
    return (f'<label>{label}{hint}<input type="{kind}" name="{name}" value="{escape(value)}" autocomplete="{known}"'
            f' placeholder="{escape(field.get("placeholder") or "")}"{needed}></label>')


def _origin(form: Form) -> str:
    """Where the form may lead beside our own pages: browsers hold a redirect after a post to the policy of the page."""
    if not form.redirect_url:
        return ""
    parts = urlsplit(form.redirect_url)
    return f"{parts.scheme}://{parts.netloc}"


def _id(request: Request) -> int:
    number = ids.internal(request.path_params["form_id"], "sf")
    if number is None:
        raise NotFound("Signup form not found")
    return number


async def _posted(request: Request) -> dict[str, Any]:
    content = await people.body(request)
    if content is None:
        raise Invalid("body", f"a submission has at most {people.FORM} octets")
    return {name: found[0] for name, found in people.fields(content).items()}


def _posts(request: Request) -> bool:
    """Whether the body is a form's."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


async def _given(request: Request) -> Mapping[str, Any]:
    """A submission as JSON, or as a posted form; raises Malformed, Invalid."""
    if _posts(request):
        return await _posted(request)
    content = await people.body(request)
    if content is None:
        raise Invalid("body", f"a submission has at most {people.FORM} octets")
    try:
        found = orjson.loads(content)
    except ValueError:
        raise Malformed from None
    if not isinstance(found, dict):
        raise Invalid("body", "body is an object")
    return found


def _status(error: RelayError) -> int:
    if isinstance(error, Defer):
        return 429 if error.code == "rate_limit_exceeded" else 503
    return next((code for kind, code in STATUS if isinstance(error, kind)), 503)


def _told(error: RelayError) -> dict[str, Any]:
    return {"success": False, "error": error.text, "code": error.code, **({"field": error.field} if isinstance(error, Invalid) else {})}


def _wait(error: RelayError) -> dict[str, str]:
    if _status(error) not in (429, 503):
        return {}
    return {"Retry-After": str(int(error.retry_after) + 1 if isinstance(error, Defer) else RETRY_AFTER)}


def _json(told: Mapping[str, Any], status: int, more: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(told), status, {**CORS, "Cache-Control": "no-store", **more}, "application/json")
