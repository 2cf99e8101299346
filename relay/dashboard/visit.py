"""One request to the dashboard: who asks, what was asked, and the ways to answer. And what a page is: an Entry of a file's ROUTES."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from relay.api import errors as api_errors
from relay.api.core import Relay
from relay.dashboard import session as sessions
from relay.dashboard import view
from relay.dashboard.session import Session
from relay.errors import Invalid, RelayError
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import contacts
from relay.store.pages import Page

if TYPE_CHECKING:
    from relay.dashboard.house import House

ANYBODY, SENDER, OWNER = "anybody", "sender", "owner"  # who may see a page: no session needed, any key or user, full_access only
FORM = 1_000_000  # octets of a form
ROWS = 25  # of a list on a page
TEXT = 500  # characters of a query parameter
DEEPEST = 1_000_000  # page number
LOOKED_AT = 10_000  # contacts among which a page picks or counts some while it is waited for: 30 ms of CPU at most

Act = Callable[["Visit"], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: `path` below /dashboard as Starlette writes it, `may` who sees it, `body` octets of a form at most."""

    method: str
    path: str
    act: Act
    may: str = OWNER
    body: int = FORM


def get(path: str, act: Act, may: str = OWNER) -> Entry:
    return Entry("GET", path, act, may)


def post(path: str, act: Act, may: str = OWNER, body: int = FORM) -> Entry:
    return Entry("POST", path, act, may, body)


@dataclass(slots=True)
class Visit:
    """A request that may be answered: its form is read, its token checked, its visitor allowed here.

    who   None only on pages for ANYBODY
    form  what was posted; empty for a GET
    """

    request: Request
    house: House
    who: Principal | None
    session: Session | None
    form: FormData = field(default_factory=FormData)
    title: str = ""

    @property
    def here(self) -> Relay:
        """What the API's functions take as their first argument."""
        return self.house.here

    @property
    def query(self) -> QueryParams:
        return self.request.query_params

    @property
    def owner(self) -> bool:
        return self.who is not None and self.who.permission == "full_access"

    @property
    def live(self) -> bool:
        """Whether htmx asks, for a part of the page."""
        return self.request.headers.get("hx-request") == "true"

    def asked(self, name: str) -> str:
        """A query parameter without white space around it, "" for none; raises Invalid."""
        return _clean(name, self.query.get(name, ""), TEXT)

    def given(self, name: str) -> str:
        """A field of the form, "" for none; raises Invalid."""
        value = self.form.get(name, "")
        return "" if isinstance(value, UploadFile) else _clean(name, value, FORM)

    def ticked(self, name: str) -> bool:
        """Whether a box of the form is ticked."""
        return name in self.form

    def number(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def page(self, size: int = ROWS) -> Page:
        """Which page of a list was asked for, by `page` or `cursor`; anything odd means the first."""
        text, cursor = self.asked("page"), self.asked("cursor")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 1
        return Page(min(max(number, 1), DEEPEST), size, ids.internal(cursor, "cur") if cursor else None)

    def at(self, **changes: Any) -> str:
        """The address of this page with some query parameters changed; None takes one out."""
        kept: dict[str, Any] = {name: value for name, value in self.query.items() if name not in changes}
        kept |= {name: str(value) for name, value in changes.items() if value is not None}
        query = str(QueryParams(kept))
        return self.request.url.path + (f"?{query}" if query else "")

    async def later(self, most: int = LOOKED_AT) -> bool:
        """Whether what takes long with more than `most` contacts is left to a part that the page fetches (macro `later`), which asks with `whole`."""
        return not self.asked("whole") and self.who is not None and await self.here.store.read(contacts.many, self.who.project, most)

    def show(self, template: str, /, code: int = 200, error: RelayError | None = None, **values: Any) -> HTMLResponse:
        """The page. `error` is said at its top, and its status is the answer's."""
        if error is not None:
            code = api_errors.status(error)
        tokens = self.house.tokens
        said = sessions.said(tokens, self.request)
        common = {
            "visit": self, "who": self.who, "owner": self.owner, "path": self.request.url.path, "token": sessions.form_token(tokens, self.session),
            "said": said, "error": error, "field": getattr(error, "field", ""), "nav": self.house.navigation(self), "given": _texts(self.form),
        }
        answer = HTMLResponse(view.render(template, {**common, **values}), code)
        if said:
            answer.delete_cookie(sessions.SAID, path=sessions.PATH)
        return answer

    @staticmethod
    def wrong(error: RelayError | ValidationError) -> RelayError:
        """What is wrong with some input, as the error that names its field."""
        return api_errors.invalid(error) if isinstance(error, ValidationError) else error

    def go(self, path: str, said: str = "") -> Response:
        """Lead on to a page of ours, which says `said` at its top."""
        answer = RedirectResponse(path, 303)
        if said:
            sessions.say(self.house.tokens, self.request, answer, said)
        return answer


def _clean(name: str, text: str, most: int) -> str:
    if "\0" in text:
        raise Invalid(name, f"{name} contains a NUL")
    if len(text) > most:
        raise Invalid(name, f"{name} has {len(text)} characters, at most {most} are read")
    return text.strip()


def _texts(form: FormData) -> Mapping[str, str]:
    """What was typed, to be shown again beside what was wrong with it."""
    return {name: value for name, value in form.items() if isinstance(value, str)}
