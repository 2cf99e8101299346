"""The text parts of a message, opened for edits that leave every other octet as it is (RFC 2045, RFC 2046).

`texts` finds the HTML and plain parts that a reader sees; attachments, forwarded messages and whatever a signature or encryption covers are left alone.
`opened` gives a part's text as octets in a superset of ASCII. Edits are made at offsets of that text and written back where they belong:

    7bit, 8bit         spliced in as they are
    quoted-printable   the octets that stood for the edited ones go, the new ones come encoded between soft line breaks
    base64             the part is encoded anew, since each of its characters hangs on its neighbours; its decoded octets differ in the edits alone

Charsets that are no superset of ASCII (UTF-16, ISO-2022-JP) are edited as UTF-8 and written back, if that gives back the original where nothing changed.
A Plan is made once for a message and rendered for each recipient.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.errors import Invalid
from relay.mail.header import Header, split

DEPTH = 10  # multiparts in multiparts
PARTS = 200  # text parts of a message that are looked at
TEXT = 4_000_000  # octets of a text part that is edited; a larger one is no mail for reading
COLUMNS = 72  # of an encoded line, of 76 allowed (RFC 2045 §6.7)

_TYPE = re.compile(r"\s*([a-z0-9.+-]+)/([a-z0-9.+-]+)", re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([a-z0-9*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.IGNORECASE)
_QUOTED = re.compile(rb"=([0-9A-Fa-f]{2})|=[ \t]*\r\n|(?<![ \t])[ \t]+(?=\r\n|\Z)")
_PLAIN = re.compile(
    r"us-?ascii|utf-?8|iso-?8859-\d+|windows-\d+|cp125\d|koi8-[ru]|macintosh|gb2312|gbk|gb18030|big5(-hkscs)?|shift_jis|euc-(jp|kr|tw)|tis-620|latin\d?|",
)
SHUT = frozenset(("multipart/signed", "multipart/encrypted", "multipart/digest"))  # the last holds messages, not text


class Part(NamedTuple):
    """A text part: `kind` "html" | "plain", its content at [start, end) of the message's body, `encoding` and `charset` in lower case."""

    kind: str
    start: int
    end: int
    encoding: str
    charset: str


class Edit(NamedTuple):
    """Replace [start, end) of an opened text by the value in `slot`."""

    start: int
    end: int
    slot: int


class Quoted(NamedTuple):
    """A slot in a quoted-printable part; the `last` of a part ends in no soft line break, which RFC 2045 §6.7 rule 5 has no place for."""

    slot: int
    last: bool


@dataclass(frozen=True, slots=True)
class Text:
    """An opened part: `octets` to look at. `runs` map them to the body: (offset here, where it begins and ends there, whether octet for octet)."""

    part: Part
    octets: bytes
    runs: tuple[tuple[int, int, int, bool], ...] = ()
    codec: str = ""
    _starts: tuple[int, ...] = field(default=(), repr=False)

    @property
    def whole(self) -> bool:
        """Whether the part is written anew as a whole."""
        return self.part.encoding == "base64" or bool(self.codec)

    def raw(self, start: int, end: int) -> tuple[int, int]:
        """Where [start, end) of the text stands in the body."""
        if not self.runs:
            return self.part.start + start, self.part.start + end
        first = self._place(start, False)
        return first, self._place(end - 1, True) if end > start else first

    def _place(self, at: int, behind: bool) -> int:
        if at >= len(self.octets):
            return self.part.end
        offset, begin, end, literal = self.runs[bisect_right(self._starts, at) - 1]
        if literal:
            return begin + at - offset + behind
        return end if behind else begin


@dataclass(frozen=True, slots=True)
class Whole:
    """A part that is encoded anew: pieces of its text, the charset to go back to, and the line break it ended in."""

    pieces: tuple[bytes | int, ...]
    codec: str
    base64: bool
    tail: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """The body as pieces: octets, slots as they are or quoted, and parts that are encoded anew."""

    pieces: tuple[bytes | int | Quoted | Whole, ...]

    def render(self, values: Sequence[bytes]) -> bytes:
        """The body with these values in its slots."""
        return b"".join(_rendered(piece, values) for piece in self.pieces)


def texts(header: Header, body: bytes) -> list[Part]:
    """The text parts that a reader sees, in their order."""
    found: list[Part] = []
    for part in _walk(header, body, 0, len(body), DEPTH):
        found.append(part)
        if len(found) == PARTS:
            break
    return found


def opened(body: bytes, part: Part) -> Text | None:
    """The text of a part, or None for one that cannot be edited without changing more."""
    raw = body[part.start:part.end]
    if len(raw) > TEXT:
        return None
    plain = bool(_PLAIN.fullmatch(part.charset)) or not (_known(part.charset) or b"\x1b" in raw or b"\0" in raw)
    if part.encoding == "quoted-printable":
        return _unquoted(part, raw) if plain else None
    if part.encoding == "base64":
        try:
            raw = b64decode(raw.translate(None, b"\r\n\t "), validate=True)
        except ValueError:
            return None
    elif part.encoding not in ("", "7bit", "8bit", "binary"):
        return None
    return Text(part, raw) if plain else _transcoded(part, raw)


def plan(body: bytes, edits: Sequence[tuple[Text, Sequence[Edit]]]) -> Plan:
    """The plan of these edits; texts in the order of their parts, edits of a text in order and apart from each other."""
    pieces: list[bytes | int | Quoted | Whole] = []
    at = 0
    for text, wanted in edits:
        if text.whole:
            raw = body[text.part.start:text.part.end]
            tail = raw[len(raw.rstrip(b"\r\n")):] if text.part.encoding == "base64" else b""
            pieces += (body[at:text.part.start], Whole(_cut(text.octets, wanted), text.codec, text.part.encoding == "base64", tail))
            at = text.part.end
            continue
        for edit in wanted:
            start, end = text.raw(edit.start, edit.end)
            pieces += (body[at:start], Quoted(edit.slot, end == text.part.end) if text.part.encoding == "quoted-printable" else edit.slot)
            at = end
    pieces.append(body[at:])
    return Plan(tuple(pieces))


def quoted(value: bytes) -> bytes:
    """Quoted-printable behind a soft line break, so that it may follow anything in a line; line breaks of the value stay line breaks."""
    out, column = [b"=\r\n"], 0
    for line_number, line in enumerate(value.split(b"\r\n")):
        if line_number:
            out.append(b"\r\n")
            column = 0
        for position, octet in enumerate(line):
            last = position == len(line) - 1
            token = bytes((octet,)) if (33 <= octet <= 126 and octet != 61) or (octet == 32 and not last) else b"=%02X" % octet
            if column + len(token) > COLUMNS:
                out.append(b"=\r\n")
                column = 0
            out.append(token)
            column += len(token)
    return b"".join(out)


def _rendered(piece: bytes | int | Quoted | Whole, values: Sequence[bytes]) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, int):
        return values[piece]
    if isinstance(piece, Quoted):
        return quoted(values[piece.slot]) + (b"" if piece.last else b"=\r\n")
    text = b"".join(each if isinstance(each, bytes) else values[each] for each in piece.pieces)
    if piece.codec:
        text = text.decode("utf-8").encode(piece.codec, "xmlcharrefreplace")
    if not piece.base64:
        return text
    encoded = b64encode(text)
    return b"\r\n".join(encoded[at:at + 76] for at in range(0, len(encoded), 76)) + piece.tail


def _cut(octets: bytes, edits: Sequence[Edit]) -> tuple[bytes | int, ...]:
    pieces: list[bytes | int] = []
    at = 0
    for edit in edits:
        pieces += (octets[at:edit.start], edit.slot)
        at = edit.end
    return (*pieces, octets[at:])


def _unquoted(part: Part, raw: bytes) -> Text:
    """Quoted-printable read with a map of where each octet came from; what is no valid escape stands for itself (RFC 2045 §6.7)."""
    out, runs, at, size = [], [], 0, 0
    for found in _QUOTED.finditer(raw):
        if found.start() > at:
            out.append(raw[at:found.start()])
            runs.append((size, part.start + at, part.start + found.start(), True))
            size += found.start() - at
        if found[1] is not None:
            out.append(bytes.fromhex(found[1].decode()))
            runs.append((size, part.start + found.start(), part.start + found.end(), False))
            size += 1
        at = found.end()
    if at < len(raw):
        out.append(raw[at:])
        runs.append((size, part.start + at, part.start + len(raw), True))
    return Text(part, b"".join(out), tuple(runs), "", tuple(run[0] for run in runs))


def _transcoded(part: Part, raw: bytes) -> Text | None:
    try:
        text = raw.decode(part.charset)
        return Text(part, text.encode("utf-8"), (), part.charset) if text.encode(part.charset) == raw else None
    except (LookupError, ValueError):
        return None


def _known(charset: str) -> bool:
    try:
        return "".encode(charset) is not None
    except (LookupError, ValueError):
        return False


def _walk(header: Header, body: bytes, start: int, end: int, depth: int) -> Iterator[Part]:
    """The text parts in [start, end) of the body, which this header describes."""
    kind, parameters = content_type(header.value(b"content-type"))
    if kind in ("text/html", "text/plain"):
        if not header.value(b"content-disposition").lower().startswith("attachment"):
            yield Part(kind[5:], start, end, header.value(b"content-transfer-encoding").lower(), parameters.get("charset", "").lower())
    elif kind.startswith("multipart/") and kind not in SHUT and depth:
        boundary = parameters.get("boundary", "")
        for first, last in _sections(body, start, end, boundary) if boundary else ():
            inner = first if body.startswith(b"\r\n", first) else body.find(b"\r\n\r\n", first, last) + 2
            if inner < first:
                continue
            try:
                fields, _ = split(body[first:inner])
            except Invalid:
                continue
            yield from _walk(fields, body, inner + 2, max(inner + 2, last), depth - 1)


def _sections(body: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
    """Where the parts of a multipart stand (RFC 2046 §5.1.1); one that is never closed ends with its parent."""
    line = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary.encode("utf-8", "surrogateescape")) + rb"(--)?[ \t]*(?=\r\n|\Z)")
    first = -1
    for found in line.finditer(body, max(0, start - 2), end):
        if first >= 0:
            yield first, max(first, found.start())
        if found[1] is not None:
            return
        first = found.end() + 2
    if 0 <= first <= end:
        yield first, end


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """Type and parameters, the names in lower case; text/plain for a field that is missing or cannot be read (RFC 2045 §5.2)."""
    found = _TYPE.match(value)
    if found is None:
        return "text/plain", {}
    parameters: dict[str, str] = {}
    for name, inner, bare in _PARAMETER.findall(value, found.end()):
        parameters.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", inner) or bare)
    return f"{found[1]}/{found[2]}".lower(), parameters
