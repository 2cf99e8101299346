"""Copies: one letter to many people, each made for its reader, and how a copy enters at the door. Broadcasts and workflows both go this way.

    values(contact)                 the variables that a letter may use of a contact
    build(letter, to, variables)    the copy's octets: rendered and put together; pure, so another process can do it
    judge(door, ...)                the copy as the admit chain lets it pass, not yet kept
    send(door, ...)                 all of it for one reader: a Receipt once it is durable

Marketing copies have one-click headers and a footer by the copy chain (policies.unsubscribe), whatever the author wrote. A fallback is the template's own:
{{ first_name | default: "friend" }}.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from relay import templates
from relay.errors import Refuse
from relay.mail import mime
from relay.mail.header import Header
from relay.mail.message import MARKETING, TRANSACTIONAL, Envelope, Message, Origin, Principal, Recipient, Wishes
from relay.mail.mime import Draft, Texts

if TYPE_CHECKING:
    from relay.store.audience.contacts import Contact
    from relay.submission import Door, Receipt

BULK = {"Precedence": "bulk", "X-Auto-Response-Suppress": "All"}  # no vacation notes to a mailing (RFC 3834 §2; Exchange reads the second)


class Letter(Struct, frozen=True):
    """What is said, before it is said to anybody.

    sender       the From field, `Name <a@b>`
    topic        top_ id, or ""
    stream       MARKETING, or TRANSACTIONAL for a step that says so: then without headers and footer, and unsubscribed contacts get it too
    everything   a one-click unsubscribe stops all mail, not only marketing (contract §0; Plunk's stops marketing)
    opens, clicks  tracking; None = as the domain has it
    footer       a marketing copy shows its way out in its text too, not in its header alone
    """

    sender: str
    texts: Texts
    reply_to: tuple[str, ...] = ()
    topic: str = ""
    stream: str = MARKETING
    everything: bool = True
    opens: bool | None = None
    clicks: bool | None = None
    tags: tuple[str, ...] = ()
    footer: bool = True

    @property
    def address(self) -> str:
        """The bare address of From, which is the reverse-path too; raises Invalid."""
        return mime.mailboxes(self.sender, "from")[0].address


def values(contact: Contact) -> dict[str, Any]:
    """The variables of a contact: its properties by name, and what every contact has."""
    given = {"email": contact.email, "first_name": contact.first_name or "", "last_name": contact.last_name or "", "id": contact.public_id,
             "tags": contact.tags, "firstName": contact.first_name or "", "lastName": contact.last_name or ""}
    return {**contact.properties, **given, "contact": {**given, "properties": contact.properties}, "data": contact.properties}


def build(letter: Letter, to: str, variables: Mapping[str, Any]) -> bytes:
    """The octets of the copy to this address; raises Invalid naming the text at fault."""
    fields, body = composed(letter, to, variables)
    return b"".join((*fields.raws(), b"\r\n", body))


def composed(letter: Letter, to: str, variables: Mapping[str, Any]) -> tuple[Header, bytes]:
    """As `build`, header and body apart. A transactional letter has no way out, so no link to it either."""
    marketing = letter.stream == MARKETING
    texts = templates.render(letter.texts, variables, templates.LINKS if marketing else dict.fromkeys(templates.LINKS, ""))
    headers = BULK if marketing else None
    subject = " ".join(texts.subject.split())  # a property may have a line break, and a subject none
    return mime.composed(Draft(letter.sender, (to,), subject[:mime.LINE], texts.html, texts.text, (), letter.reply_to, headers))


async def judge(
    door: Door, who: Principal, letter: Letter, recipient: Recipient, content: bytes | tuple[Header, bytes], protocol: str, facts: dict[str, Any] | None = None,
    asked: bool = False,
) -> Message:
    """The copy after the admit chain; who does not keep it calls `door.let_go`. Raises what the chain raises.

    content   header and body, or the two apart
    protocol  "broadcast" | "workflow"
    facts     what is known of the letter already: with `spam_score` it is not scored again
    asked     the caller asks the suppression list in the transaction that keeps the copy
    """
    sender = letter.address
    utf8 = not (sender.isascii() and recipient.address.isascii())
    admitted = await door.judge(who, Envelope(sender, (recipient,), smtputf8=utf8), content, Origin(protocol), _wishes(letter), facts=facts, asked=asked)
    return admitted[0]


@lru_cache(maxsize=64)
def _wishes(letter: Letter) -> Wishes:
    """What is asked for all copies of a letter."""
    marketing = letter.stream != TRANSACTIONAL
    return Wishes(
        tags=letter.tags, topic=letter.topic if marketing else "", stream=letter.stream, unsubscribe=marketing and letter.everything,
        opens=letter.opens, clicks=letter.clicks, idempotency_hours=72, footer=letter.footer)


async def send(door: Door, who: Principal, letter: Letter, recipient: Recipient, variables: Mapping[str, Any], protocol: str) -> Receipt:
    """A Receipt once this one copy is durable; raises Refuse when the reader may not get it, and what the chain raises."""
    message = await judge(door, who, letter, recipient, build(letter, recipient.address, variables), protocol)
    if not message.recipients:
        await door.let_go((message,))
        raise Refuse(message.dropped[0][1], "recipient_suppressed")
    return await door.keep((message,))


def recipient(number: int, address: str, field: str = "to") -> Recipient:
    """The envelope's recipient of this id; raises Invalid, naming the field, for an address that is none."""
    box = mime.mailboxes(address, field)[0]
    return Recipient(number, box.address, box.key, box.domain)


def reader(number: int, contact: Contact) -> Recipient:
    """The recipient of this id for a contact; plain addresses are known to be sound and are not read again."""
    if contact.email.isascii() and not contact.email.startswith('"'):
        return Recipient(number, contact.email, contact.key, contact.key.rpartition("@")[2])
    return recipient(number, contact.email)
