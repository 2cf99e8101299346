"""What Plunk's /v1/send is asked for: the shapes of a request, and what they mean for all its recipients together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from relay import templates
from relay.api import errors
from relay.api.compat.plunk import data
from relay.api.compat.plunk.data import Data
from relay.api.core import Input, Relay, Shape
from relay.api.draft import SUBJECT
from relay.errors import Invalid, NotFound
from relay.mail import ids, mailbox, mime
from relay.mail.message import TRANSACTIONAL, Principal
from relay.mail.mime import Attachment, Box, Texts
from relay.store import templates as stored
from relay.store.templates import Template

RECIPIENTS = 100  # of one request
FILES, TOGETHER = 10, 10_000_000  # attachments of a mail, and their octets decoded


class Person(Shape):
    email: str = Field(max_length=320)
    name: str | None = Field(None, max_length=200)


class FileInput(Shape):
    """A file in base64. With `content_id` it is inline."""

    filename: str = Field(min_length=1, max_length=255)
    content: Any
    content_type: str | None = None
    content_id: str | None = None
    disposition: str | None = None


def _person(value: Any) -> Any:
    """`a@b` and `Name <a@b>` mean a Person."""
    return {"email": value} if isinstance(value, str) else value


def _people(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Somebody = Annotated[Person, BeforeValidator(_person)]


class SendInput(Input):
    """One mail to one or several, each alone: by a template, or with subject and body, which may have variables too."""

    to: Annotated[list[Somebody], BeforeValidator(_people), Field(min_length=1, max_length=RECIPIENTS)]
    subject: str | None = Field(None, min_length=1, max_length=SUBJECT)
    body: str | None = Field(None, min_length=1)
    template: str | None = None
    type: str | None = None
    sender: Somebody | None = Field(None, validation_alias="from")
    name: str | None = Field(None, max_length=200)
    subscribed: bool | None = None
    data: dict[str, Any] | None = None
    headers: dict[str, Annotated[str, Field(max_length=998)]] | None = Field(None, max_length=50)
    reply: str | None = Field(None, max_length=320)
    tracking: bool | None = None
    attachments: list[FileInput] = Field(default_factory=list, max_length=FILES)


@dataclass(frozen=True, slots=True)
class Mail:
    """What all recipients of a request share."""

    given: SendInput
    said: Data
    texts: Texts
    sender: str
    reply_to: tuple[str, ...]
    stream: str
    template: str
    files: list[Attachment]


def described(shape: type[BaseModel]) -> Any:
    """The JSON schema of a body for the document, without references: the route reads its body itself, since that may be large."""
    schema = shape.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return whole(parts[value["$ref"].rpartition("/")[2]]) if "$ref" in value else {name: whole(each) for name, each in value.items()}
        return [whole(each) for each in value] if isinstance(value, list) else value

    return whole(schema)


def shaped(value: Any) -> SendInput:
    """Raises Invalid naming the field at fault."""
    try:
        return SendInput.model_validate(value)
    except ValidationError as error:
        raise errors.invalid(error) from None


async def understood(here: Relay, who: Principal, given: SendInput) -> Mail:
    """The request, understood; raises Invalid, NotFound, Refuse."""
    if given.type not in (None, "html"):
        raise Invalid("type", "type is html: Relay renders no markdown")
    template = await _template(here, who, given.template) if given.template else None
    if template is None and (given.subject is None or given.body is None):
        raise Invalid("template", "either template, or subject and body")
    texts = Texts(given.subject or template.subject, given.body or template.html, None if given.body else template.text) if template else Texts(
        given.subject or "", given.body)
    templates.variables(texts)
    return Mail(given, data.read(given.data), texts, _from(given, template), _reply(given, template), template.stream if template else TRANSACTIONAL,
                template.public_id if template else "", _files(given))


async def _template(here: Relay, who: Principal, name: str) -> Template:
    """The template with the texts that are sent; raises NotFound, or Refuse for a draft."""
    number = ids.internal(name, "tpl")
    if number is None:
        raise NotFound("Template not found")
    return await here.store.read(stored.sent, who.project, number)


def _from(given: SendInput, template: Template | None) -> str:
    """`Name <a@b>` of the From field."""
    if given.sender is not None:
        found = box(given.sender.email, "from")
        return mailbox.text(given.sender.name or given.name or "", found.address) if given.sender.name or given.name else found.text
    if template is not None and template.sender:
        return template.sender
    raise Invalid("from", "from is required: the template names no sender")


def box(text: str, field: str) -> Box:
    """The one mailbox of a text; raises Invalid."""
    found = mime.mailboxes(text, field)
    if len(found) != 1:
        raise Invalid(field, f"{field} is one address")
    return found[0]


def _reply(given: SendInput, template: Template | None) -> tuple[str, ...]:
    found = given.reply or (template.reply_to if template else "")
    return (found,) if found else ()


def _files(given: SendInput) -> list[Attachment]:
    files = [Attachment(each.filename, each.content, each.content_type or "", each.content_id or "") for each in given.attachments]
    if any(not isinstance(each.content, (str, mime.Spooled)) for each in files):
        raise Invalid("attachments", "attachments[].content is base64 text")
    if sum(_size(each) for each in files) > TOGETHER:
        raise Invalid("attachments", f"the attachments of a mail have at most {TOGETHER // 1_000_000} MB together")
    return files


def _size(file: Attachment) -> int:
    """Octets when decoded, nearly."""
    return len(file.content) * 3 // 4
