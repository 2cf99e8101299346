"""Builds a message from what an API caller gives: addresses, subject, HTML, text, files (RFC 5322, RFC 2045, RFC 2046, RFC 2387).

    text and html         multipart/alternative
    html with cid: files  multipart/related around the HTML
    other files           multipart/mixed around all of it

The octets come out once and final: every line ends in CRLF and has at most 998 octets, text is sent as it stands where it is short-lined ASCII, else
quoted-printable or base64, whichever reads better. Date and Message-ID are the door's to add. Nothing that a caller gives can end a field early: values
are refused with a line break in them, plain or inside an encoded word. The boundary depends on the content alone, so equal drafts give equal octets.
"""

from __future__ import annotations

import binascii
import io
import os
import re
import string
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote

from msgspec import Struct

from relay.errors import Invalid
from relay.mail import address, header, mailbox, words
from relay.mail.header import Field, Header

FILES = 10  # attachments of a message
FILE = 25 * 1024 * 1024  # octets of an attachment, decoded
LINE = 998  # octets of a line without its CRLF (RFC 5322 §2.1.1)
FORBIDDEN = frozenset((
    "from", "sender", "to", "cc", "bcc", "subject", "date", "message-id", "reply-to", "return-path", "received", "mime-version", "authentication-results",
    "delivered-to", "x-original-to",
))
FORBIDDEN_PREFIXES = ("content-", "x-relay-", "x-poststack-", "arc-", "dkim-", "resent-")

CHUNK = 1 << 20  # base64 letters decoded at a time, so that proving a file costs no second copy of it
DIGESTED = 1_000_000  # octets of a piece that go into a boundary; text longer than that is never 7bit, see encoded()
REMEMBERED = 2_000  # mailboxes that were read
WRAP = 76  # base64 letters on a line (RFC 2045 §6.8)

_HIGH = bytes(range(128, 256))
_LETTERS = string.ascii_letters.encode() + b"0123456789+/="
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_COMMA = ",\r\n "
_VERSION = Field(b"mime-version", b"MIME-Version: 1.0\r\n")
_BARE = re.compile(r"\r\n|\r|\n")
_BREAK = re.compile(r"[\r\n\0]")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")
_CID = re.compile(r"[!-;=?-~]{1,200}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9 ._()+-]{1,60}")
_TYPES = {
    "pdf": "application/pdf", "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "svg": "image/svg+xml", "webp": "image/webp",
    "txt": "text/plain", "csv": "text/csv", "html": "text/html", "ics": "text/calendar", "json": "application/json", "xml": "application/xml",
    "zip": "application/zip", "gz": "application/gzip", "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "mp4": "video/mp4", "mp3": "audio/mpeg",
}


class Texts(Struct, frozen=True):
    """The three texts of a mail, as sources or rendered."""

    subject: str
    html: str | None = None
    text: str | None = None

    def each(self) -> Iterable[tuple[str, str]]:
        """Field name and text of those that are there."""
        return ((name, value) for name in ("subject", "html", "text") if (value := getattr(self, name)) is not None)


class Spooled:
    """The content of a large file: base64, proven and cut into lines, which end in CRLF, in an open file; `digest` tells it from others."""

    __slots__ = ("_file", "_offset", "_size", "digest")

    def __init__(self, file: int, offset: int, size: int, digest: str):
        self._file, self._offset, self._size, self.digest = file, offset, size, digest

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """Its octets, CHUNK at a time; raises OSError."""
        for position in range(0, self._size, CHUNK):
            octets = os.pread(self._file, min(CHUNK, self._size - position), self._offset + position)
            if not octets:
                raise OSError("a spooled file has lost its end")
            yield octets


class Attachment(Struct, frozen=True):
    """`content` the file in base64, as the caller gave it; `content_id` without brackets makes it an inline image of the HTML."""

    filename: str
    content: str | bytes | Spooled
    content_type: str = ""
    content_id: str = ""


class Draft(Struct, frozen=True):
    """What a message is made of. Addresses as `Name <a@b>` or `a@b`; at least one of `html` and `text`."""

    sender: str
    to: Sequence[str]
    subject: str
    html: str | None = None
    text: str | None = None
    cc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] | None = None
    attachments: Sequence[Attachment] = ()


Alike = dict[tuple[str | None, str | None], tuple[tuple[Field, ...], bytes]]  # HTML and text; what describes the body, and the body


class Part(Struct, frozen=True):
    """One MIME entity: its own header lines and its body in pieces, put together once, when the whole message is."""

    head: bytes
    pieces: tuple[bytes | Spooled, ...]

    @property
    def body(self) -> bytes:
        """Its octets, which are in memory once: what is spooled is read into their place."""
        if not any([isinstance(piece, Spooled) for piece in self.pieces]):
            return b"".join(self.pieces)  # type: ignore[arg-type]
        out = io.BytesIO()
        for piece in self.pieces:
            for octets in piece.pieces() if isinstance(piece, Spooled) else (piece,):
                out.write(octets)
        return out.getvalue()

    def all(self) -> tuple[bytes | Spooled, ...]:
        return (self.head, b"\r\n", *self.pieces)


def build(draft: Draft) -> bytes:
    """The whole message, header and body; raises Invalid naming the field of the draft at fault."""
    fields, body = composed(draft)
    return b"".join((*fields.raws(), b"\r\n", body))


def composed(draft: Draft, alike: Alike | None = None) -> tuple[Header, bytes]:
    """As `build`, header and body apart, for who would only split them again.

    alike  the bodies of drafts that are built together, by their texts: many of a batch often say the same, and then share its octets
    """
    fields = _fields(draft)
    if alike is None or draft.attachments:
        described, body = _body(draft)
    else:
        said = (draft.html, draft.text)
        known = alike.get(said)
        if known is None:
            known = alike[said] = _body(draft)
        described, body = known
    return Header((*fields, *described)), body


def _body(draft: Draft) -> tuple[tuple[Field, ...], bytes]:
    """The fields that describe the body, and the body."""
    content = _content(draft)
    return _described(content.head), content.body


def _described(head: bytes) -> tuple[Field, ...]:
    """The header lines of a part as fields."""
    return (Field(b"content-type", head),) if head.startswith(b"Content-Type: multipart/") else _split(head)


@lru_cache(maxsize=64)  # those of a text are a handful
def _split(head: bytes) -> tuple[Field, ...]:
    return header.split(head)[0].fields


def _fields(draft: Draft) -> list[Field]:
    """The header fields but for those that describe the body."""
    out = [_from(draft.sender)]
    if draft.to:
        out.append(_boxes("To", "to", draft.to))
    if draft.cc:
        out.append(_boxes("Cc", "cc", draft.cc))
    if draft.reply_to:
        out.append(_boxes("Reply-To", "reply_to", draft.reply_to))
    out.append(_named("Subject", draft.subject, "subject"))
    if draft.headers:
        out.extend(_custom(tuple(draft.headers.items())))
    out.append(_VERSION)
    return out


class Box(Struct, frozen=True):
    """A mailbox ready for a field and for the envelope: `text` as the field has it, `key` in normal form, domains as A-labels, which every hop can carry."""

    text: str
    address: str
    key: str
    domain: str


@lru_cache(maxsize=REMEMBERED)
def mailboxes(given: str, field: str) -> tuple[Box, ...]:
    """The mailboxes of `Name <a@b>` or of a list of such; raises Invalid(field) for what is none, or has a line break."""
    if _BREAK.search(given):
        raise Invalid(field, f"{field} contains a line break or NUL")
    if (plain := address.simple(given)) is not None:
        wired = f"{plain[0]}@{plain[1]}"
        return (Box(wired, wired, f"{plain[0].lower()}@{plain[1]}", plain[1]),)
    found = mailbox.mailboxes(given, field)
    if not found:
        raise Invalid(field, f"{field} has no address in {given[:80]!r}")
    try:
        return tuple(_box(each) for each in found)
    except Invalid as error:
        raise Invalid(field, error.text) from None


def _box(found: mailbox.Mailbox) -> Box:
    wired = f"{found.address.rpartition('@')[0]}@{found.domain}"
    return Box(mailbox.text(found.name, wired), wired, address.key(wired), found.domain)


def _boxes(name: str, field: str, given: Sequence[str]) -> Field:
    """An address field, one mailbox a line (lists of fifty are common)."""
    texts = [box.text for each in given for box in mailboxes(each, field)]
    if field == "from" and len(texts) > 1:
        raise Invalid(field, "from takes one address")
    return Field(name.lower().encode(), f"{name}: {_COMMA.join(texts)}\r\n".encode())


def _named(name: str, value: str, field: str) -> Field:
    try:
        return words.unstructured(name, value)
    except Invalid as error:
        raise Invalid(field, error.text) from None


@lru_cache(maxsize=REMEMBERED)
def _from(given: str) -> Field:
    return _boxes("From", "from", (given,))


def custom(fields: Mapping[str, str]) -> list[Field]:
    """The caller's own fields; raises Invalid for those that would forge or break the message."""
    return list(_custom(tuple(fields.items())))


@lru_cache(maxsize=64)  # a broadcast's copies have the same
def _custom(fields: tuple[tuple[str, str], ...]) -> tuple[Field, ...]:
    out = []
    for name, value in fields:
        lower, field = name.lower(), f"headers.{name}" if name else "headers"
        if lower in FORBIDDEN or lower.startswith(FORBIDDEN_PREFIXES):
            raise Invalid(field, f"the header {name} may not be set")
        try:
            header.make(name, value)  # refuses line breaks inside encoded words too
            out.append(words.unstructured(name, value))
        except Invalid as error:
            raise Invalid(field, error.text) from None
    return tuple(out)


def _content(draft: Draft) -> Part:
    """The body: alternative inside related inside mixed, each only where it is needed."""
    if draft.html is None and draft.text is None:
        raise Invalid("html", "one of html and text is required")
    html = None if draft.html is None else text_part("html", draft.html)
    if not draft.attachments:
        return _readable(draft, html)
    if len(draft.attachments) > FILES:
        raise Invalid("attachments", f"at most {FILES} attachments")
    inline = [(number, a) for number, a in enumerate(draft.attachments) if a.content_id and html is not None]
    files = [(number, a) for number, a in enumerate(draft.attachments) if not (a.content_id and html is not None)]
    if html is not None and inline:
        html = multipart("related", [html, *(_file(number, a) for number, a in inline)])
    body = _readable(draft, html)
    return multipart("mixed", [body, *(_file(number, a) for number, a in files)]) if files else body


def _readable(draft: Draft, html: Part | None) -> Part:
    """The text beside the HTML, or the one that there is."""
    plain = None if draft.text is None else text_part("plain", draft.text)
    return html if plain is None else plain if html is None else multipart("alternative", (plain, html))  # type: ignore[return-value]


def texts(given: Texts) -> Part:
    """The body of a message that has these texts and nothing else; raises Invalid when it has none."""
    return _content(Draft("", (), given.subject, given.html, given.text))


def text_part(subtype: str, value: str) -> Part:
    """A text part, in the lightest encoding that keeps it intact on any path."""
    text = _BARE.sub("\r\n", value) if "\r" in value else value.replace("\n", "\r\n")
    octets = text.encode("utf-8", "replace")
    charset = b"us-ascii" if len(octets) == len(text) else b"utf-8"
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    encoding, body = encoded(octets)
    return Part(b"Content-Type: text/%b; charset=%b\r\nContent-Transfer-Encoding: %b\r\n" % (subtype.encode(), charset, encoding), (body,))


def encoded(octets: bytes) -> tuple[bytes, bytes]:
    """Encoding and body of text whose lines end in CRLF: 7bit, quoted-printable where most is ASCII, else base64."""
    if octets.isascii() and b"\0" not in octets and len(octets) <= DIGESTED and (len(octets) <= LINE or max(map(len, octets.split(b"\r\n"))) <= LINE):
        return b"7bit", octets
    if len(octets.translate(None, _HIGH)) * 6 < len(octets) * 5:  # over a sixth outside ASCII: base64 is smaller and no less readable
        return b"base64", wrapped(binascii.b2a_base64(octets, newline=False))
    return b"quoted-printable", binascii.b2a_qp(octets, istext=True)


def multipart(subtype: str, parts: Sequence[Part]) -> Part:
    """The parts in one."""
    wholes = [part.all() for part in parts]
    boundary = _boundary(subtype.encode(), [piece for whole in wholes for piece in whole])
    pieces: list[bytes | Spooled] = []
    for whole in wholes:
        pieces += (b"--", boundary, b"\r\n", *whole)
        if not _ended(whole[-1]):
            pieces.append(b"\r\n")
    return Part(b'Content-Type: multipart/%b; boundary="%b"\r\n' % (subtype.encode(), boundary), (*pieces, b"--", boundary, b"--\r\n"))


def _boundary(seed: bytes, pieces: Sequence[bytes | Spooled]) -> bytes:
    """What stands in none of them, made of a checksum of them: no base64 line has "=_" in it, and what is sent as it stands is looked through."""
    number, looked = zlib.crc32(seed), []
    for piece in pieces:
        if isinstance(piece, Spooled):
            number = zlib.crc32(piece.digest.encode(), number)
        elif len(piece) > DIGESTED:
            number = zlib.crc32(b"%d" % len(piece), number)
        else:
            number = zlib.crc32(piece, number)
            looked.append(piece)
    boundary = b"=_%08x.relay" % number
    while any([boundary in piece for piece in looked]):
        number = zlib.crc32(seed, number)
        boundary = b"=_%08x.relay" % number
    return boundary


def _ended(piece: bytes | Spooled) -> bool:
    return isinstance(piece, Spooled) or piece[-2:] == b"\r\n"


def _file(number: int, attachment: Attachment) -> Part:
    field = f"attachments[{number}]"
    name = attachment.filename
    if not name or len(name) > 255 or any(c in name for c in "\r\n\0"):
        raise Invalid(f"{field}.filename", "filename is 1 to 255 characters without line breaks")
    kind = attachment.content_type or _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    if not _TYPE.fullmatch(kind.partition(";")[0].strip()) or _BARE.search(kind) or not kind.isascii() or len(kind) > 200:
        raise Invalid(f"{field}.content_type", "content_type is a media type such as application/pdf")
    disposition = "attachment"
    identity = b""
    if attachment.content_id:
        if not _CID.fullmatch(attachment.content_id.strip("<>")):
            raise Invalid(f"{field}.content_id", "content_id is 1 to 200 printable characters without spaces")
        disposition, identity = "inline", b"Content-ID: <%b>\r\n" % attachment.content_id.strip("<>").encode()
    head = b"Content-Type: %b\r\nContent-Transfer-Encoding: base64\r\n%bContent-Disposition: %b; %b\r\n" % (
        kind.encode(), identity, disposition.encode(), _filename(name))
    if isinstance(attachment.content, Spooled):
        return Part(head, (attachment.content,))
    return Part(head, (wrapped(checked(attachment.content, field)),))


def _filename(name: str) -> bytes:
    """The parameter: quoted where plain, else percent-encoded UTF-8 (RFC 2231)."""
    if _PLAIN_NAME.fullmatch(name):
        return f'filename="{name}"'.encode()
    return f"filename*=utf-8''{quote(name, safe='')}".encode()


def checked(content: str | bytes, field: str) -> bytes:
    """Base64 text without white space, proven to decode, of at most FILE octets; URL-safe letters and missing padding are put right."""
    text = content.encode("ascii", "replace") if isinstance(content, str) else content
    if text.translate(None, _LETTERS):  # a search for what is odd takes fifteen times as long
        text = text.translate(_URLSAFE, b" \t\r\n")
    text += b"=" * (-len(text) % 4)
    size = len(text) // 4 * 3 - text[-2:].count(b"=")
    if size > FILE:
        raise Invalid(f"{field}.content", f"an attachment has at most {FILE // 1024 // 1024} MB")
    try:
        for position in range(0, len(text), CHUNK):
            binascii.a2b_base64(memoryview(text)[position:position + CHUNK], strict_mode=True)
    except binascii.Error:
        raise Invalid(f"{field}.content", "content is not base64") from None
    return text


def wrapped(text: bytes) -> bytes:
    """Base64 text cut into lines of 76, the last one ended too."""
    view = memoryview(text)
    lines = [view[position:position + WRAP] for position in range(0, len(text), WRAP)]
    lines.append(memoryview(b""))
    return b"\r\n".join(lines)
