"""POST /inbound/{id}/reply and /forward: answer mail to a domain, or pass it on. Both are emails like any other, with every policy before them."""

from __future__ import annotations

import asyncio
import base64
import re
from html import escape
from typing import Any

from fastapi import Request
from pydantic import Field

from relay.api import outbox, sending
from relay.api.core import Core, Input, Owner, Relay, resource
from relay.api.inbound import number_of
from relay.errors import Invalid
from relay.mail import mailbox, mime, reading
from relay.mail.message import Principal
from relay.mail.reading import Reading
from relay.store.inbound import mail
from relay.store.inbound.mail import Inbound

router = resource("Inbound")

THREAD = 10  # Message-IDs in References, the last ones
SUBJECT = 900  # characters of a subject that is repeated
_ID = re.compile(r"[!-;=?-~]{1,250}")  # that we repeat in a field of ours
RE, _FWD = re.compile(r"\s*(?:re|aw|sv|antw)\s*:", re.IGNORECASE), re.compile(r"\s*(?:fwd?|wg)\s*:", re.IGNORECASE)

Addresses = list[str]


class ReplyInput(Input):
    """An answer to who wrote; its subject and thread follow from what it answers."""

    from_: str = Field(alias="from", max_length=1_000)
    html: str | None = None
    text: str | None = None
    cc: Addresses = Field(default_factory=list, max_length=50)
    bcc: Addresses = Field(default_factory=list, max_length=50)


class ForwardInput(Input):
    """Who gets it, and a word before it."""

    from_: str = Field(alias="from", max_length=1_000)
    to: Addresses = Field(min_length=1, max_length=50)
    cc: Addresses = Field(default_factory=list, max_length=50)
    bcc: Addresses = Field(default_factory=list, max_length=50)
    message: str = Field("", max_length=100_000)


@router.post("/inbound/{inbound_id}/reply", status_code=202)
async def reply_to_inbound(here: Core, who: Owner, request: Request, inbound_id: str, given: ReplyInput) -> Any:
    """Answer a message, at its Reply-To or its author; the answer is in its thread."""
    each, read = await opened(here, who, inbound_id)
    thread = [f"<{number}>" for number in (*read.references, each.message_id) if _ID.fullmatch(number)][-THREAD:]
    headers = {"In-Reply-To": thread[-1], "References": " ".join(thread)} if thread and _ID.fullmatch(each.message_id) else None
    email = {"to": [author_of(each, read)], "subject": marked("Re: ", each.subject, RE), "html": given.html, "text": given.text, "headers": headers}
    return await _sent(here, who, request, given, email)


@router.post("/inbound/{inbound_id}/forward", status_code=202)
async def forward_inbound(here: Core, who: Owner, request: Request, inbound_id: str, given: ForwardInput) -> Any:
    """Pass a message on with its files, below `message`; suppressed recipients are left out as for any email."""
    each, read = await opened(here, who, inbound_id)
    files = [{"filename": file.filename or f"file-{number}", "content": base64.b64encode(file.content).decode(), "content_type": _type(file.content_type),
              "content_id": file.content_id if file.content_id and read.html else None} for number, file in enumerate(read.attachments[:mime.FILES])]
    facts = (("From", f"{each.from_name} <{each.from_address}>".strip()), ("Subject", each.subject), ("To", ", ".join(each.to_addresses)))
    head = "\n".join(f"{name}: {value}" for name, value in facts)
    email = {"to": given.to, "subject": marked("Fwd: ", each.subject, _FWD), "attachments": files,
             "text": f"{given.message}\n\n---------- Forwarded message ----------\n{head}\n\n{read.text}"}
    if read.html:
        email["html"] = f"<p>{_lines(given.message)}</p><p>---------- Forwarded message ----------<br>{_lines(head)}</p>{read.html}"
    return await _sent(here, who, request, given, email)


async def opened(here: Relay, who: Principal, inbound_id: str) -> tuple[Inbound, Reading]:
    each = await here.store.read(mail.get, who.project, number_of(inbound_id))
    return each, await asyncio.to_thread(reading.read, await here.store.read(mail.octets, who.project, each.id))


async def _sent(here: Relay, who: Principal, request: Request, given: ReplyInput | ForwardInput, email: dict[str, Any]) -> Any:
    told = {"from": given.from_, "cc": given.cc, "bcc": given.bcc, **{name: value for name, value in email.items() if value is not None}}
    return await outbox.send(here, who, outbox.asked(sending.shaped(told)), request.client.host if request.client else "")


def author_of(each: Inbound, read: Reading) -> str:
    """Whom an answer goes to; raises Invalid where nobody can be answered."""
    try:
        wanted = [box.address for box in mailbox.mailboxes(read.header.value(b"reply-to")[:2_000])]
    except Invalid:
        wanted = []
    found = wanted[0] if wanted else each.from_address
    if not found:
        raise Invalid("inbound_id", "the message names nobody who could be answered")
    return found


def marked(mark: str, subject: str, already: re.Pattern[str]) -> str:
    flat = " ".join(subject.split())[:SUBJECT]
    return flat if already.match(flat) else f"{mark}{flat}"


def _type(kind: str) -> str:
    """A message as a file may not be base64 (RFC 2046 §5.2.1), which every file of ours is."""
    return "application/octet-stream" if kind.startswith("message/") else kind


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.split("\n"))
