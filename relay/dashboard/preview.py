"""What a letter says to one contact, while it is being written: its words as a part of the page, its HTML for the sandboxed frame beside them.

A form with a letter in it has the fields subject, html and text (or template_id), `contact`, the address of whose eyes it is seen with (the newest contact's
without one), and `variables`, values as JSON for what no contact has. An A/B test numbers its fields, subject.2, and `variant` says which is looked at. The
form is posted into the frame by its own button, so the preview works without scripts; preview.js presses that button as somebody types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from markupsafe import escape
from starlette.responses import HTMLResponse, Response

from relay import copies, templates
from relay.api.templates import number_of
from relay.dashboard import view
from relay.dashboard.captured import framed
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, RelayError
from relay.mail import address
from relay.mail.mime import Texts
from relay.store import templates as stored
from relay.store.audience import contacts as people
from relay.store.pages import Page

SEARCH = 200  # characters
SUGGESTED = 10  # contacts that a search for whose eyes to use shows
NEWEST = Page(1, 1)
LINKS = {name: "https://relay.invalid/" for name in templates.LATER}  # made when the copy is made; a preview leads nowhere


@dataclass(frozen=True, slots=True)
class Seen:
    """A letter as `to` reads it ("" where the project has no contact); `known`: a contact has this address; the variables that nothing gives."""

    to: str
    known: bool
    texts: Texts
    missing: list[str]


async def of(visit: Visit, texts: Texts) -> Seen:
    """The texts with the values of the form's contact and variables; raises Invalid."""
    given, extra = visit.given("contact") or visit.asked("contact"), _variables(visit)
    contact = await _contact(visit, given)
    values = {**(copies.values(contact) if contact else {"email": given}), **extra}
    return Seen(contact.email if contact else given, contact is not None, templates.render(texts, values, LINKS), templates.missing(texts, values))


async def _contact(visit: Visit, text: str) -> people.Contact | None:
    """The contact of this address; without an address the newest there is."""
    if text:
        return await visit.here.store.read(people.by_key, visit.who.project, address.key(text))
    return next(iter((await visit.here.store.read(people.paged, visit.who.project, NEWEST, people.Filter())).rows), None)


def _variables(visit: Visit) -> dict[str, Any]:
    """The values that the form gives as JSON; raises Invalid."""
    text = visit.given("variables")
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise Invalid("variables", f"the values are no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Invalid("variables", 'the values are a JSON object, such as {"product": "Shop"}')
    return found


async def typed(visit: Visit) -> Texts:
    """The letter of the form: what was typed, or the published texts of the template that was chosen; raises Invalid, NotFound, Refuse."""
    variant = visit.given("variant")
    suffix = f".{variant}" if f"subject.{variant}" in visit.form else ""
    subject, html, text = (written(visit, name + suffix) for name in ("subject", "html", "text"))
    if not suffix and (template := visit.given("template_id")):
        texts = await visit.here.store.read(stored.published, visit.who.project, number_of(template))
        return Texts(subject or texts.subject, texts.html, texts.text)
    return Texts(subject or "", html, text)


def written(visit: Visit, name: str) -> str | None:
    """A text of the form with the line ends of texts, not those of forms; None for nothing."""
    return visit.given(name).replace("\r\n", "\n") or None


async def words(visit: Visit) -> Response:
    """Subject, text and missing variables: a part of a page."""
    seen, wrong = None, ""
    try:
        seen = await of(visit, await typed(visit))
    except RelayError as error:
        wrong = error.text
    return HTMLResponse(view.render("preview/words.html", {"seen": seen, "wrong": wrong, "asked": visit.given("contact")}))


async def frame(visit: Visit) -> Response:
    """The HTML, or the text of a letter that has none, or what is wrong with it."""
    try:
        return shown((await of(visit, await typed(visit))).texts)
    except RelayError as error:
        return framed(f"<p>{escape(error.text)}</p>")


def shown(texts: Texts) -> Response:
    """A letter for a frame."""
    return framed(texts.html if texts.html is not None else f"<pre>{escape(texts.text or '')}</pre>", images="https:")


async def suggestions(visit: Visit) -> Response:
    """Contacts whose address begins with what was typed, and new ones that have it anywhere: options of a list."""
    found = await visit.here.store.read(people.suggested, visit.who.project, visit.asked("contact")[:SEARCH], SUGGESTED)
    return HTMLResponse(view.render("preview/people.html", {"contacts": found}))


ROUTES = (post("/preview/words", words), post("/preview/frame", frame), get("/preview/contacts", suggestions))
