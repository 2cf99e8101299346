"""/inbound: mail that people wrote to the project's domains, as it was read and as it came."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from fastapi.responses import Response

from relay.api.core import Core, Owner, Paging, Relay, known, listed, resource, whole
from relay.clock import iso
from relay.errors import NotFound
from relay.mail import address, ids, reading
from relay.mail.message import Principal
from relay.mail.quoting import stripped
from relay.mail.reading import Attachment, Reading
from relay.store.inbound import mail
from relay.store.inbound.mail import Inbound

router = resource("Inbound")
SAFE = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-store"}  # beside nosniff, which every answer has


def number_of(text: str) -> int:
    return known("in", text, "Inbound email")


def row(each: Inbound) -> dict[str, Any]:
    """What a list shows."""
    return {
        "id": each.public_id, "domain_id": ids.public("dom", each.domain_id), "domain": each.domain, "from_address": each.from_address,
        "from_name": each.from_name, "to_address": each.recipients[0], "recipients": each.recipients, "to_addresses": each.to_addresses,
        "cc_addresses": each.cc_addresses, "subject": each.subject, "message_id": each.message_id, "in_reply_to": each.in_reply_to or None,
        "email_id": ids.public("em", each.answers) if each.answers else None, "mailbox_hash": each.mailbox_hash or None, "size": each.size,
        "spam_score": each.spam_score, "spam_verdict": each.spam_verdict or None, "authentication": each.authentication,
        "attachments": [{"id": number, **file} for number, file in enumerate(each.attachments)], "created_at": iso(each.created_at),
    }


@router.get("/inbound")
async def list_inbound(here: Core, who: Owner, page: Paging, domain: Annotated[str | None, Query(max_length=255, description="A domain's name")] = None) -> Any:
    """List mail to the project's domains, newest first."""
    found = await here.store.read(mail.paged, who.project, page, address.a_label(domain) if domain else None)
    return listed("inbound_emails", found, page, row)


@router.get("/inbound/{inbound_id}")
async def get_inbound(here: Core, who: Owner, inbound_id: str) -> Any:
    """One message: its texts, all header fields, and `stripped_reply`, the text without what it answers."""
    each = await here.store.read(mail.get, who.project, number_of(inbound_id))
    read = await _read(here, who, each.id)
    texts = {"text_body": read.text or None, "html_body": read.html or None, "stripped_reply": stripped(read.text) or None}
    return {**row(each), **texts, "headers": read.headers()}


@router.get("/inbound/{inbound_id}/attachments")
async def list_inbound_attachments(here: Core, who: Owner, inbound_id: str) -> Any:
    """The files of a message."""
    each = await here.store.read(mail.get, who.project, number_of(inbound_id))
    return whole("attachments", [{"id": number, **file} for number, file in enumerate(each.attachments)])


@router.get("/inbound/{inbound_id}/attachments/{number}", response_class=Response)
async def get_inbound_attachment(here: Core, who: Owner, inbound_id: str, number: int) -> Any:
    """One file, as octets; never shown in a browser, whatever type it claims."""
    files = (await _read(here, who, number_of(inbound_id))).attachments
    if not 0 <= number < len(files):
        raise NotFound("Attachment not found")
    return await asyncio.to_thread(_file, files[number])


@router.get("/inbound/{inbound_id}/raw", response_class=Response)
async def get_inbound_raw(here: Core, who: Owner, inbound_id: str) -> Any:
    """The message as it came, with our trace and Authentication-Results on top."""
    octets = await here.store.read(mail.octets, who.project, number_of(inbound_id))
    return Response(octets, media_type="message/rfc822", headers={**SAFE, "Content-Disposition": f'attachment; filename="{inbound_id}.eml"'})


@router.delete("/inbound/{inbound_id}")
async def delete_inbound(here: Core, who: Owner, inbound_id: str) -> Any:
    """Forget a message and its files at once; without this they go with `[retention] inbound`."""
    await here.store.write(mail.remove, who.project, number_of(inbound_id))
    return {"deleted": True}


async def _read(here: Relay, who: Principal, number: int) -> Reading:
    octets = await here.store.read(mail.octets, who.project, number)
    return await asyncio.to_thread(reading.read, octets)


def _file(file: Attachment) -> Response:
    name = f"attachment; filename*=UTF-8''{quote(file.filename or 'attachment', safe='')}"
    return Response(file.content, media_type=file.content_type, headers={**SAFE, "Content-Disposition": name})
