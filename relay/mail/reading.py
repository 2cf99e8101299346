"""A message as its reader sees it: who wrote to whom, the text, the HTML, the files (RFC 5322, RFC 2045-2049, RFC 2183, RFC 2231).

relay.mail.entities takes the MIME apart, within its bounds. Broken parts are what mail is full of: what base64 cannot mean is passed over, a charset that
nobody knows is read as best it goes, and nothing raises but `Refuse`, for parts nested too deeply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from relay.errors import Invalid
from relay.mail import entities, mailbox
from relay.mail.entities import Entity
from relay.mail.header import Header, split
from relay.mail.words import decode

ATTACHMENTS = 100  # listed of one message
TEXT = 2_000_000  # characters of a text that are read
BOXES = 200  # addresses of a field that are listed

_CODECS = re.compile(r"us-?ascii|utf-?(?:8|16(?:[bl]e)?)|iso-?8859-\d+|windows-\d+|cp\d+|koi8-[rut]|macintosh|gb2312|gbk|gb18030|big5(?:-?hkscs)?|hz-gb-2312|"
                     r"shift[_-]jis|euc-(?:jp|kr|tw)|iso-2022-(?:jp|kr)|ks_c_5601-1987|tis-620|latin\d?")
_ID = re.compile(r"<([^<>\s]{1,995})>")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a message; decoded each time its content or size is asked for, which takes long where it is large."""

    filename: str
    content_type: str
    content_id: str
    entity: Entity = field(repr=False)

    @property
    def content(self) -> bytes:
        return self.entity.content()

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.content)

    def shown(self) -> dict[str, Any]:
        return {"filename": self.filename, "content_type": self.content_type, "content_id": self.content_id or None, "size": self.size}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader sees; "" for what is not there, names decoded, Message-IDs without brackets."""

    header: Header
    from_address: str
    from_name: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    message_id: str
    in_reply_to: str
    references: tuple[str, ...]
    text: str
    html: str
    attachments: tuple[Attachment, ...]

    def headers(self) -> list[dict[str, str]]:
        """All fields in their order."""
        return [{"name": each.raw.partition(b":")[0].decode("ascii", "replace").strip(), "value": decode(each.value)} for each in self.header.fields]


def read(content: bytes) -> Reading:
    """The message, its lines ending in CRLF, its files not looked into. Raises Refuse for parts nested too deeply, Invalid for a header too large."""
    fields, _ = split(content)
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    files: list[Attachment] = []
    for each in entities.leaves(content):
        if _said(each):
            texts[each.kind].append(_text(each))
        elif len(files) < ATTACHMENTS:
            files.append(_file(each))
    author = _boxes(fields, b"from")[:1]
    return Reading(
        fields, author[0][1] if author else "", author[0][0] if author else "", tuple(spec for _, spec in _boxes(fields, b"to")),
        tuple(spec for _, spec in _boxes(fields, b"cc")), decode(fields.value(b"subject")[:5_000]), *_thread(fields),
        _joined(texts["text/plain"]), _joined(texts["text/html"]), tuple(files))


def _said(entity: Entity) -> bool:
    """Whether it is a text to be read, and no file."""
    return entity.kind in ("text/plain", "text/html") and entity.disposition != "attachment" and not entity.filename


def _text(entity: Entity) -> str:
    octets = entity.content()[:TEXT]
    for codec in (entity.charset if _CODECS.fullmatch(entity.charset) else "utf-8", "utf-8"):
        try:
            return octets.decode(codec)
        except (UnicodeError, LookupError):
            continue
    return octets.decode("latin-1" if entity.charset not in ("", "utf-8") else "utf-8", "replace")


def _joined(texts: list[str]) -> str:
    return "\n".join(texts)[:TEXT].replace("\0", "\ufffd")


def _file(entity: Entity) -> Attachment:
    return Attachment(entity.filename or ("message.eml" if entity.kind == "message/rfc822" else ""), entity.kind, entity.identity, entity)


def _boxes(fields: Header, name: bytes) -> list[tuple[str, str]]:
    """(name, address) of the mailboxes of a field; what no two readers read alike is left out."""
    try:
        found = mailbox.mailboxes(fields.value(name)[:100_000])
    except Invalid:
        return []
    return [(each.name, each.address) for each in found[:BOXES]]


def _thread(fields: Header) -> tuple[str, str, tuple[str, ...]]:
    """Message-ID, In-Reply-To and References (RFC 5322 §3.6.4)."""
    own, answered, chain = (_ID.findall(fields.value(name)[:20_000]) for name in (b"message-id", b"in-reply-to", b"references"))
    return own[0] if own else "", answered[0] if answered else "", tuple(chain[-20:])
