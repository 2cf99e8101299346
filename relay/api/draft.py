"""What a caller writes to send an email, and what it means: pure, from the request's body to a draft, an envelope's recipients and wishes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints

from relay.api.core import Shape
from relay.errors import Invalid
from relay.mail import mime
from relay.mail.ids import Maker
from relay.mail.message import MARKETING, TRANSACTIONAL, Recipient, Wishes
from relay.mail.mime import Attachment, Draft, Spooled, Texts

RECIPIENTS = 50  # of each of to, cc and bcc
TAGS, TAG = 10, 64
KEY = 64  # characters of idempotency_key
AHEAD = 366 * 86_400.0  # seconds that an email may be scheduled ahead
SUBJECT = 998  # characters


def _several(value: Any) -> Any:
    """A bare text means a list of one."""
    return [value] if isinstance(value, str) else value


def _moment(value: Any) -> Any:
    """UTC seconds of an ISO 8601 text; without a zone it is UTC."""
    if value is None or not isinstance(value, str):
        raise ValueError("a time is a text such as 2026-03-25T09:00:00.000Z")
    try:
        when = datetime.fromisoformat(value.strip())
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("a time is ISO 8601, such as 2026-03-25T09:00:00.000Z") from None


def _content(value: Any) -> str | Spooled:
    """Base64 text, or what relay.api.spool has put in the place of a large one."""
    if not isinstance(value, str | Spooled):
        raise ValueError("content is base64 text")
    return value


Moment = Annotated[float, BeforeValidator(_moment)]
Addresses = Annotated[list[Annotated[str, Field(max_length=1_000)]], BeforeValidator(_several), Field(max_length=RECIPIENTS)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TAG)]


class AttachmentInput(Shape):
    """A file, base64 in `content`; with `content_id` it is an inline image that the HTML names as `cid:...`."""

    filename: str
    content: Annotated[str | Spooled, PlainValidator(_content, json_schema_input_type=str)]
    content_type: str | None = None
    content_id: str | None = None


class TrackingInput(Shape):
    """What to track of this email; what is not said is as the domain has it."""

    opens: bool | None = None
    clicks: bool | None = None


_AS_THE_DOMAIN = TrackingInput()
CONTENT = frozenset(("from_", "to", "subject", "html", "text", "cc", "bcc", "reply_to", "headers", "attachments"))  # fields that wish for nothing beside it
NOTHING = Wishes()


class ContentInput(Shape):
    """What an email says, in words of its own or by a template."""

    from_: str = Field(alias="from", max_length=1_000, examples=["PostStack <you@yourdomain.com>"])
    to: Addresses = Field(min_length=1, examples=[["user@example.com"]])
    subject: str | None = Field(None, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    template_id: str | None = None
    variables: dict[str, Any] | None = None


class SendInput(ContentInput):
    """One email."""

    cc: Addresses = Field(default_factory=list)
    bcc: Addresses = Field(default_factory=list)
    reply_to: Addresses = Field(default_factory=list)
    headers: dict[str, str] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=TAGS)
    attachments: list[AttachmentInput] = Field(default_factory=list, max_length=10)
    scheduled_at: Moment | None = None
    idempotency_key: str | None = Field(None, min_length=1, max_length=KEY)
    idempotency_window_hours: int = Field(24, ge=1, le=72)
    retry: Literal["standard", "otp"] = Field("standard", description="otp: mail that is worthless after an hour, tried again within seconds")
    tracking: TrackingInput | None = None
    unsubscribe: bool = False
    topic_id: str | None = Field(None, min_length=1, max_length=64)


def fingerprint(given: SendInput) -> str:
    """A digest of what is asked for, the same for the same email however its JSON was spelled."""
    said = given.model_dump(exclude={"idempotency_key", "idempotency_window_hours"}, exclude_defaults=True)
    return hashlib.sha256(orjson.dumps(said, _told, orjson.OPT_SORT_KEYS)).hexdigest()


def _told(spooled: Spooled) -> str:
    return spooled.digest


def draft(given: SendInput, texts: Texts) -> Draft:
    """The message's content, whose texts are rendered already."""
    files = [Attachment(a.filename, a.content, a.content_type or "", a.content_id or "") for a in given.attachments]
    return Draft(given.from_, given.to, texts.subject, texts.html, texts.text, given.cc, given.reply_to, given.headers, files)


def author(given: ContentInput) -> str:
    """The bare address of From, which is the reverse-path too; raises Invalid."""
    found = mime.mailboxes(given.from_, "from")
    if len(found) != 1:
        raise Invalid("from", "from takes one address")
    return found[0].address


def recipients(given: SendInput, maker: Maker) -> list[Recipient]:
    """Everybody who gets it, once each, in the order given; raises Invalid naming the list at fault."""
    if len(given.to) == 1 and not given.cc and not given.bcc and len(boxes := mime.mailboxes(given.to[0], "to")) == 1:
        return [Recipient(maker.next(), boxes[0].address, boxes[0].key, boxes[0].domain)]
    people: dict[str, Recipient] = {}
    for field, texts in (("to", given.to), ("cc", given.cc), ("bcc", given.bcc)):
        for text in texts:
            for box in mime.mailboxes(text, field):
                if box.key not in people:
                    people[box.key] = Recipient(maker.next(), box.address, box.key, box.domain)
    return list(people.values())


def bare(texts: Iterable[str], field: str) -> list[str]:
    """The addresses of a list without their names."""
    return [box.address for text in texts for box in mime.mailboxes(text, field)]


def wishes(given: SendInput, key: str, digest: str, now: float) -> Wishes:
    """What the caller asks for beside the content; raises Invalid for a time too far ahead."""
    if not key and given.model_fields_set <= CONTENT:
        return NOTHING
    send_at = given.scheduled_at
    if send_at is not None and send_at > now + AHEAD:
        raise Invalid("scheduled_at", "scheduled_at is more than a year ahead")
    tracking = given.tracking or _AS_THE_DOMAIN
    listed = given.unsubscribe or given.topic_id is not None
    return Wishes(
        tags=tuple(dict.fromkeys(given.tags)), topic=given.topic_id or "", stream=MARKETING if listed else TRANSACTIONAL, unsubscribe=given.unsubscribe,
        opens=tracking.opens, clicks=tracking.clicks, template=given.template_id or "", idempotency_key=key, idempotency_hours=given.idempotency_window_hours,
        send_at=send_at if send_at is not None and send_at > now else None, idempotency_hash=digest, retry=given.retry,
    )
