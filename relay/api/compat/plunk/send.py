"""POST /v1/send: a mail of its own to each recipient, whose contact is made or changed on the way.

    request ─► template or subject and body ─► contacts ─► may each of them get it? ─► for each: rendered ─► the door ─► answer

The contact of a new address is unsubscribed unless the request says `subscribed: true`: a receipt is no consent to marketing. A MARKETING template goes to
subscribed contacts only, with one-click fields and a footer; anything else goes to both. Nothing is sent when one of the recipients may not get it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request

from relay import templates
from relay.api import limits
from relay.api.compat.plunk import data
from relay.api.compat.plunk.contacts import upserted
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.letter import Mail, Person, SendInput, box, described, shaped, understood
from relay.api.compat.plunk.once import Once, once
from relay.api.contacts import by, done
from relay.api.core import Core, Json, Relay, Sender, resource
from relay.api.sending import parsed
from relay.audience.contacts import By, Changed
from relay.clock import iso
from relay.errors import Refuse
from relay.mail import mailbox, mime
from relay.mail.message import MARKETING, Envelope, Origin, Principal, Recipient, Wishes
from relay.mail.mime import Draft
from relay.mail.reply import Reply
from relay.mail.tokens import UNSUBSCRIBE, pack
from relay.store import suppression_rules
from relay.store.audience.contacts import Contact

BULK = {"Precedence": "bulk", "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}  # of marketing mail, so that nobody answers it by machine
ONE_CLICK = frozenset({"list-unsubscribe", "list-unsubscribe-post"})
LIFE = 60 * 86_400.0  # seconds that a link works, as in policies.unsubscribe

router = resource("Emails")


@router.post("/v1/send", openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": described(SendInput)}}}})
async def send(here: Core, who: Sender, request: Request) -> Any:
    """Send a mail to each of `to`."""
    async with here.spool.body(request) as body, once(here, who, request) as state:
        mail = await understood(here, who, shaped(parsed(body)))
        people = await here.store.write(_contacts, mail, by(here, who, request))
        done(here, tuple(number for each in people for number in each.stopped))
        emails = await _sent(here, who, mail, [each.contact for each in people], request.client.host if request.client else "", state)
    told = {"emails": emails, "timestamp": iso(here.clock.now())}
    room = {name.removeprefix("X-"): value for name, value in (await limits.headers(here, who)).items()}
    return Json({"success": True, "data": told, **told}, 200, room)


def _contacts(conn: Any, mail: Mail, one: By) -> list[Changed]:
    """The contacts of all recipients, once each; who is new is unsubscribed unless the request says otherwise."""
    boxes = {found.key: found.address for person in mail.given.to for found in (box(person.email, "to"),)}
    return [upserted(conn, email, mail.said, mail.given.subscribed, False, one) for email in boxes.values()]


# The mails.


async def _sent(here: Relay, who: Principal, mail: Mail, people: list[Contact], client: str, state: Once) -> list[dict[str, Any]]:
    if mail.stream == MARKETING and any(each.unsubscribed for each in people):
        gone = next(each.email for each in people if each.unsubscribed)
        raise Bad("to", f"{gone} is unsubscribed and gets no marketing mail; a TRANSACTIONAL template reaches every contact")
    recipients = [_recipient(here, each) for each in people]
    sender = box(mail.sender, "from").address
    envelopes = [Envelope(sender, (each,), smtputf8=not (sender + each.address).isascii()) for each in recipients]
    rules = await here.store.read(suppression_rules.of, who.project)
    captured = {each.key for each in recipients if suppression_rules.first(rules, each.key)}
    for each, reply in zip(recipients, await here.door.recipients(who, list(zip(envelopes, recipients, strict=True))), strict=True):
        if reply is not None and reply.permanent and each.key not in captured:
            raise Refuse(reply, "recipient_suppressed")
    emails, names = [], {box(person.email, "to").key: person for person in reversed(mail.given.to)}  # the first spelling counts
    for contact, envelope in zip(people, envelopes, strict=True):
        content = _built(here, mail, contact, envelope.recipients[0], names[contact.key])
        emails.append({"contact": {"id": contact.public_id, "email": contact.email}, "email": await _through(
            here, who, mail, envelope, content, client, contact.key in captured)})
        state.kept = True
    return emails


def _recipient(here: Relay, contact: Contact) -> Recipient:
    found = box(contact.email, "to")
    return Recipient(here.maker.next(), found.address, found.key, found.domain)


def _built(here: Relay, mail: Mail, contact: Contact, recipient: Recipient, person: Person) -> bytes:
    """The octets of one recipient's mail."""
    links = _links(here, mail, recipient)
    texts = templates.render(mail.texts, variables(contact, mail.said.all), links)
    to = mailbox.text(person.name, recipient.address) if person.name else box(person.email, "to").text
    linked = any(link in f"{texts.html}{texts.text}" for link in links.values())
    headers = _headers(mail, links["unsubscribe_url"] if linked else "")
    return mime.build(Draft(mail.sender, [to], texts.subject, texts.html, texts.text, (), mail.reply_to, headers, mail.files))


def _links(here: Relay, mail: Mail, recipient: Recipient) -> dict[str, str]:
    """Where this recipient unsubscribes and chooses, by name. In marketing mail the copy policies put it, with its header fields; in other mail nobody else."""
    if mail.stream == MARKETING:
        return templates.LINKS
    token, public = here.services.tokens.make(UNSUBSCRIBE, pack(recipient.id), here.clock.now() + LIFE), here.settings.http.public_url.rstrip("/")
    there = {templates.LATER["unsubscribe_url"]: f"{public}/u/{token}", templates.LATER["preferences_url"]: f"{public}/p/{token}"}
    return {name: there[place] for name, place in templates.LINKS.items()}


def _headers(mail: Mail, link: str) -> dict[str, str]:
    """The caller's own fields, and what Plunk adds where they have none of the name: of List-Unsubscribe and its companion both or neither.

    link  that the text of transactional mail has, else ""
    """
    given = mail.given.headers or {}
    there = {name.lower() for name in given}
    ours = dict(BULK) if mail.stream == MARKETING else {}
    if link and mail.stream != MARKETING and there.isdisjoint(ONE_CLICK):
        ours |= {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return {**{name: value for name, value in ours.items() if name.lower() not in there}, **given}


def variables(contact: Contact, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a mail to this contact may say: its data, as `key` and `data.key`, and what came with the request."""
    everything = {**contact.properties, **said}
    return {**everything, "data": everything, "id": contact.public_id, "email": contact.email, "subscribed": not contact.unsubscribed,
            "locale": everything.get(data.LOCALE, "")}


async def _through(here: Relay, who: Principal, mail: Mail, envelope: Envelope, content: bytes, client: str, captured: bool) -> str:
    """The id of the mail, which is on the disk; raises Refuse when the admit chain leaves nobody.

    captured  a rule stops it: it is kept as suppressed
    """
    tracking = mail.given.tracking
    wishes = Wishes(stream=mail.stream, template=mail.template, opens=tracking, clicks=tracking)
    admitted = await here.door.judge(who, envelope, content, Origin("http", client), wishes)
    if not captured and not any(message.recipients for message in admitted):
        await here.door.let_go(admitted)
        raise Refuse(next((reply for message in admitted for _, reply in message.dropped), Reply(550, "5.7.1", "refused")), "recipient_suppressed")
    return (await here.door.keep(admitted)).id
