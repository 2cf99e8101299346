"""Mail: found by recipient, subject, tag, status, day, id or Message-ID; one message's whole way, its source and its HTML; cancel and retry."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from starlette.responses import Response

from relay.api import emails
from relay.api.core import known
from relay.control import explain, queue
from relay.dashboard.captured import framed, plain
from relay.dashboard.visit import ROWS, SENDER, Visit, get, post
from relay.errors import Invalid, NotFound
from relay.mail import address, ids
from relay.store import emails as stored
from relay.store import messages, substrings
from relay.store.pages import Page
from relay.store.search import Filter

FOUND = 1_000  # messages with one Message-ID
LOOKS = 100  # at subjects that follow one another by themselves; then somebody has to ask
ENDED = frozenset((messages.DELIVERED, "bounced", "failed", "suppressed", "cancelled", "complained"))
KINDS = (("", "Recipient, id or subject"), ("to", "Recipient"), ("subject", "Part of the subject"), ("tag", "Tag"), ("id", "Id or Message-ID"))


async def every(visit: Visit) -> Response:
    """The list; a search for one email's id leads to it at once."""
    text, kind, status = visit.asked("q"), visit.asked("in"), visit.asked("status")
    error, found, further = None, {"emails": [], "pagination": {"total": 0, "page": 1, "total_pages": 0}}, None
    try:
        if kind not in dict(KINDS):
            raise Invalid("in", "look for a recipient, subject, tag or id")
        if ids.internal(text, "em") is not None and kind in ("", "id"):
            await visit.here.store.read(stored.get, visit.who.project, emails.number_of(text))
            return visit.go(f"/dashboard/mail/{text}")
        kind = kind or _kind(text)
        wanted = await _wanted(visit, text, kind, status)
        if text and kind == "subject":
            found, further = await _looked(visit, text, wanted, status == emails.SENDING)
        else:
            found = await emails.found(visit.here, visit.who, wanted, visit.page(), status == emails.SENDING)
    except (Invalid, NotFound) as wrong:
        error = wrong
    return visit.show("mail/list.html", error=error, **found, q=text, kind=visit.asked("in"), kinds=KINDS, status=status, statuses=emails.STATUSES,
                      further=further, walked=bool(text) and kind == "subject", since=visit.asked("since"), until=visit.asked("until"))


def _kind(text: str) -> str:
    """What somebody who typed this is likely to mean."""
    if text.startswith("<") or ids.internal(text, "em") is not None:
        return "id"
    return "to" if "@" in text else "subject"


async def _wanted(visit: Visit, text: str, kind: str, status: str) -> Filter:
    """The filter of a search, but for a part of the subject; raises Invalid."""
    tag = text if kind == "tag" and text else None
    to = address.key(text) if kind == "to" and text else None
    wanted = await emails.filtered(visit.here, visit.who, status or None, None, to, tag, _day(visit, "since", 0), _day(visit, "until", 1))
    if not text or kind != "id":
        return wanted
    among = frozenset(await visit.here.store.read(messages.find, text, visit.who.project, FOUND))
    return replace(wanted, among=among if wanted.among is None else among & wanted.among)


def _day(visit: Visit, name: str, more: int) -> str | None:
    """The day of a field, or so many days later, None without one; raises Invalid."""
    text = visit.asked(name)
    try:
        return (date.fromisoformat(text) + timedelta(more)).isoformat() if text else None
    except (ValueError, OverflowError):
        raise Invalid(name, f"{name} is a day such as 2026-03-23") from None


async def _looked(visit: Visit, text: str, wanted: Filter, on_wire: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What one look at subjects finds, from `before` back, and where to look further: `by_itself` until a page is full, and LOOKS times at most."""
    before = visit.asked("before")
    after = known("cur", before, "Page") if before else None
    look = await visit.here.store.read(substrings.look, visit.who.project, text, wanted, after)
    among = look.found if wanted.among is None else look.found & wanted.among
    found = await emails.found(visit.here, visit.who, replace(wanted, among=among), Page(1, ROWS), on_wire)
    had, looks = (int(asked) if (asked := visit.asked(name)).isascii() and asked.isdigit() and len(asked) < 6 else 0 for name in ("had", "looks"))
    had += len(found["emails"])
    edge = found["pagination"].get("next_cursor") or (ids.public("cur", look.last) if look.last is not None else None)
    if edge is None:
        return found, None
    further = {"path": visit.at(before=edge, had=had, looks=looks + 1), "by_itself": had < ROWS and looks < LOOKS, "at": look.at}
    return found, further


async def one(visit: Visit) -> Response:
    """A message: what became of each recipient, and why."""
    name = visit.number("email_id")
    email = await emails.get_email(visit.here, visit.who, name)
    told = (await visit.here.act(visit.who, explain.explain, name))["messages"][0]
    return visit.show("mail/one.html", email=email, told=told, status=email["status"], ended=email["status"] in ENDED)


async def html(visit: Visit) -> Response:
    """What its writer wrote, for a sandboxed frame."""
    email = await emails.get_email(visit.here, visit.who, visit.number("email_id"))
    return framed(email["html"] or "")


async def source(visit: Visit) -> Response:
    return plain(await visit.here.store.read(stored.source, visit.who.project, emails.number_of(visit.number("email_id"))))


async def insights(visit: Visit) -> Response:
    """What may keep it from the inbox, asked for when somebody wants to know: it takes a look at DNS."""
    name = visit.number("email_id")
    found: Any = await emails.get_insights(visit.here, visit.who, name)
    return visit.show("mail/insights.html", name=name, warnings=found["warnings"])


async def cancel(visit: Visit) -> Response:
    name = visit.number("email_id")
    await emails.cancel_email(visit.here, visit.who, name)
    return visit.go(f"/dashboard/mail/{name}", "Cancelled: nobody who still waited gets it.")


async def retry(visit: Visit) -> Response:
    name = visit.number("email_id")
    emails.number_of(name)
    done = await visit.here.act(visit.who, queue.retry, what=name)
    said = "It is tried again now." if done["retried"] else "Nobody waits for it any more."
    return visit.go(f"/dashboard/mail/{name}", said)


ROUTES = (
    get("/mail", every, SENDER), get("/mail/{email_id}", one, SENDER), get("/mail/{email_id}/html", html, SENDER),
    get("/mail/{email_id}/source", source, SENDER), get("/mail/{email_id}/insights", insights, SENDER), post("/mail/{email_id}/cancel", cancel, SENDER),
    post("/mail/{email_id}/retry", retry, SENDER),
)
