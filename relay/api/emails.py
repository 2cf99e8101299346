"""GET /emails and what belongs to one email: its events, insights, reschedule, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query

from relay.api import insights
from relay.api.core import Core, Input, Paging, Relay, Sender, known, listed, resource
from relay.api.draft import AHEAD, Moment
from relay.clock import iso
from relay.errors import Invalid, Refuse, RelayError
from relay.mail import address, ids, mailbox, reading, words
from relay.mail.message import Principal
from relay.mail.reply import Reply
from relay.queue.waiting import Waiting
from relay.store import emails, messages, queue
from relay.store.emails import Email, Filter, Whole
from relay.store.events import Event
from relay.store.pages import Page

SENDING = "sending"  # seen only by the runner: it is on the wire just now
QUICK = 65_536  # octets of a message that is read on the loop, in a millisecond
STATUSES = (*messages.STATUS, SENDING)
OPEN = frozenset((messages.QUEUED, messages.DEFERRED, messages.SCHEDULED))

router = resource("Emails")


def number_of(text: str) -> int:
    return known("em", text, "Email")


def _when(name: str, text: str | None) -> float | None:
    """UTC seconds of `2026-03-23` or an ISO 8601 time."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(name, f"{name} is a date such as 2026-03-23 or a time such as 2026-03-23T10:00:00.000Z") from None


@router.get("/emails")
async def list_emails(
    here: Core, who: Sender, page: Paging,
    status: Annotated[str | None, Query(description=f"One of {', '.join(STATUSES)}")] = None,
    domain_id: Annotated[str | None, Query(description="The sending domain, `dom_...`")] = None,
    to: Annotated[str | None, Query(description="A recipient's address, in any spelling")] = None,
    tag: Annotated[str | None, Query(description="A whole tag")] = None,
    date_from: Annotated[str | None, Query(description="Created at or after this date or time (ISO 8601)")] = None,
    date_to: Annotated[str | None, Query(description="Created before this date or time (ISO 8601)")] = None,
) -> Any:
    """List emails, newest first. Filter by status, domain, recipient, tag, or date range."""
    wanted = await filtered(here, who, status, domain_id, to, tag, date_from, date_to)
    return await found(here, who, wanted, page, status == SENDING)


async def filtered(
    here: Relay, who: Principal, status: str | None, domain_id: str | None, to: str | None, tag: str | None, date_from: str | None, date_to: str | None,
) -> Filter:
    """What a caller asked for; raises Invalid and NotFound."""
    if status is not None and status not in STATUSES:
        raise Invalid("status", f"status is one of {', '.join(STATUSES)}")
    domain = None
    if domain_id is not None:
        domain = (await here.domain(who, domain_id)).name
    among = on_the_wire(here, who.project) if status == SENDING else None
    return Filter(None if status == SENDING else status, domain, _key(to), tag, _when("date_from", date_from), _when("date_to", date_to), among)


async def found(here: Relay, who: Principal, wanted: Filter, page: Page, on_wire: bool = False) -> dict[str, Any]:
    """A page of emails; `on_wire` if they were looked for as those that are being sent."""
    hits = await here.store.read(emails.page, who.project, wanted, page)
    return listed("emails", hits, page, lambda email: {**row(email), "status": SENDING} if on_wire and email.status in OPEN else row(email))


def _key(to: str | None) -> str | None:
    if to is None:
        return None
    try:
        return address.key(to)
    except Invalid as error:
        raise Invalid("to", error.text) from None


def row(email: Email) -> dict[str, Any]:
    """An email as a list shows it."""
    return {
        "id": ids.public("em", email.row.id), "from": _author(email).address or email.row.sender, "to": _to(email), "subject": email.row.subject,
        "status": email.status, "created_at": iso(email.row.created_at),
    }


def _author(email: Email) -> mailbox.Mailbox:
    try:
        return mailbox.mailboxes(words.decode(email.row.header_from))[0]
    except (Invalid, IndexError):
        return mailbox.Mailbox("", email.row.sender, "")


def _to(email: Email) -> list[str]:
    """The recipients that were neither in copy nor in blind copy; over SMTP nobody says who was, so all of them."""
    copied = {address.key(spec) for name in ("cc", "bcc") for spec in email.row.facts.get(name, ())}
    addresses = [recipient.address for recipient in email.recipients if recipient.key not in copied]
    return addresses or [recipient.address for recipient in email.recipients]


@router.get("/emails/{email_id}")
async def get_email(here: Core, who: Sender, email_id: str) -> Any:
    """Retrieve a single email by id, with its texts, delivery events and metadata."""
    whole = await here.store.read(emails.whole, who.project, number_of(email_id))
    out = await aside(whole, shown, whole)
    if out["status"] in (messages.QUEUED, messages.DEFERRED) and sending(here, whole.email):
        out["status"] = SENDING
    return out


def shown(whole: Whole) -> dict[str, Any]:
    email, facts = whole.email, whole.email.row.facts
    author = _author(email)
    html, text = texts(whole.octets)
    out = {
        **row(email), "from": f"{author.name} <{author.address}>" if author.name else author.address, "html": html, "text": text, "tags": email.row.tags,
        "sent_at": iso(_first(whole.events, "email.sent", "email.delivered")), "delivered_at": iso(_first(whole.events, "email.delivered")),
        "scheduled_at": iso(email.row.send_at), "spam_score": facts.get("spam_score"), "spam_warnings": facts.get("spam_warnings", []),
        "recipients": [{"email": r.address, "status": r.state, "code": r.code, "text": r.text} for r in email.recipients],
        "events": [event(each) for each in whole.events],
    }
    out |= {name: facts[name] for name in ("cc", "bcc") if name in facts}
    if email.row.origin.get("mode") == "test":
        out["test_mode"] = True
    return out


async def aside(whole: Whole, work: Callable[..., Any], *told: Any) -> Any:
    """What `work` makes of a message, in a thread where it is large: reading it may take half a second."""
    return await asyncio.to_thread(work, *told) if len(whole.octets or b"") > QUICK else work(*told)


def texts(octets: bytes | None) -> tuple[str | None, str | None]:
    """HTML and text of a message, as they were written; None for what it has not or what is no longer kept."""
    if octets is None:
        return None, None
    try:
        read = reading.read(octets)
    except RelayError:
        return None, None
    return tuple(text.replace("\r\n", "\n").removesuffix("\n") or None for text in (read.html, read.text))  # type: ignore[return-value]


def _first(events: list[Event], *types: str) -> float | None:
    return next((each.at for kind in types for each in events if each.type == kind), None)


def event(each: Event) -> dict[str, Any]:
    """An event in an email's own history: its type without the noun, and what it tells."""
    return {"type": each.type.removeprefix("email."), "timestamp": iso(each.at), **each.data}


@router.get("/emails/{email_id}/events")
async def list_email_events(here: Core, who: Sender, email_id: str) -> Any:
    """The full event history of an email, oldest first, with a timestamp for each change of its state."""
    return {"events": [event(each) for each in await here.store.read(emails.history, who.project, number_of(email_id))]}


@router.get("/emails/{email_id}/insights")
async def get_insights(here: Core, who: Sender, email_id: str) -> Any:
    """What may keep this email from the inbox, each with the rule behind it and the way out."""
    whole = await here.store.read(emails.whole, who.project, number_of(email_id))
    return {"version": insights.VERSION, "warnings": [each.shown() for each in await insights.of_email(here, who, whole)]}


class RescheduleInput(Input):
    """The new time of a scheduled email."""

    scheduled_at: Moment


@router.patch("/emails/{email_id}")
async def reschedule_email(here: Core, who: Sender, email_id: str, given: RescheduleInput) -> Any:
    """Move a scheduled email to another time; one that has passed means now. Only works while its status is `scheduled`."""
    number = number_of(email_id)
    if given.scheduled_at > here.clock.now() + AHEAD:
        raise Invalid("scheduled_at", "scheduled_at is more than a year ahead")
    send_at = max(given.scheduled_at, here.clock.now())  # its Date follows, and nothing leaves with one of last year
    async with withheld(here, await here.store.read(emails.get, who.project, number), "rescheduled"):
        await here.store.write(_reschedule, who.project, number, send_at)
    if here.control.runner is not None:
        here.control.runner.sooner(send_at)
    return {"id": email_id, "status": messages.SCHEDULED, "scheduled_at": iso(send_at)}


def _reschedule(conn: Any, project: int, number: int, send_at: float) -> None:
    email = emails.get(conn, project, number)
    if email.status != messages.SCHEDULED or not queue.reschedule(conn, number, send_at):
        raise _too_late("rescheduled", email.status)


@router.post("/emails/{email_id}/cancel")
async def cancel_email(here: Core, who: Sender, email_id: str) -> Any:
    """Cancel an email before it is sent. Works while its status is `queued`, `scheduled` or `deferred`."""
    number = number_of(email_id)
    async with withheld(here, await here.store.read(emails.get, who.project, number), "cancelled"):
        await here.store.write(_cancel, who.project, number, here.clock.now())
    return {"id": email_id, "status": messages.CANCELLED}


def _cancel(conn: Any, project: int, number: int, now: float) -> None:
    """End all who wait; raises Refuse when nobody does any more."""
    email, ended = emails.get(conn, project, number), 0
    while some := queue.cancel(conn, queue.Filter(project=project, message=number), now, "cancelled by the API"):
        ended += len(some)
    if not ended:
        raise _too_late("cancelled", email.status)


@asynccontextmanager
async def withheld(here: Relay, email: Email, act: str) -> AsyncIterator[None]:
    """Within the block whoever delivers does not begin with this email; raises Refuse when it has, so that the act or the sending happens, never both."""
    runner = here.control.runner
    if runner is None:
        yield
        return
    open_ones = [Waiting(r.id, r.message_id, r.project_id, r.domain, email.row.stream, 0.0) for r in email.recipients if r.ended_at is None]
    async with runner.withheld(open_ones) as free:
        if not free:
            raise _too_late(act, SENDING)
        yield
    runner.sooner(here.clock.now())  # whoever still waits, perhaps past their time, is looked at again


def on_the_wire(here: Relay, project: int) -> frozenset[int]:
    """The ids of the project's emails that are being sent just now."""
    known = here.control.runner.known if here.control.runner is not None else {}
    return frozenset(waiting.message_id for waiting in tuple(known.values()) if waiting.out and waiting.project == project)


def sending(here: Relay, email: Email) -> bool:
    """Whether some of it is on the wire just now, or its outcome on its way to the disk."""
    known = here.control.runner.known if here.control.runner is not None else {}
    return any((waiting := known.get(recipient.id)) is not None and (waiting.out or waiting.done) for recipient in email.recipients)


def _too_late(act: str, status: str) -> Refuse:
    return Refuse(Reply(550, "5.7.0", f"Email is {status} and can no longer be {act}"), "invalid_status")
