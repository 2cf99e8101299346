"""The entities of a message, one after the other: what it holds when its multiparts are taken apart (RFC 2045, RFC 2046).

For mail that anybody may have written: the nesting is bounded by DEPTH and their number by PARTS, each level is searched once, and nothing is decoded before it
is asked for. A message within the message is one entity, whatever is inside it. (MIME libraries recurse without end: fast-mail-parser 0.10 takes the process
with it at 60,000 levels, and the standard library looks at every line once for each level.)
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from email.message import Message
from typing import NamedTuple

from relay.errors import Invalid, Refuse
from relay.mail.header import Header, split
from relay.mail.parts import content_type
from relay.mail.reply import Reply
from relay.mail.words import decode

DEPTH = 20  # multiparts in multiparts; people's mail has four
PARTS = 1_000  # entities of one message; more are not looked at
VALUE = 2_000  # characters of a field that names a file
NAME = 255  # characters of a file's name
OCTETS = "application/octet-stream"
DEEP = Reply(554, "5.6.0", f"the message nests more than {DEPTH} multiparts")

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
_ODD = re.compile(r"[\x00-\x1f\x7f/\\]+")
_FOREIGN = bytes(sorted(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")))


class Entity(NamedTuple):
    """`kind` such as "text/plain", `charset` in lower case or "", `disposition` "attachment" | "inline" | ""; it stands at message[start:end]."""

    header: Header
    kind: str
    charset: str
    message: bytes
    start: int
    end: int

    @property
    def raw(self) -> bytes:
        """Its body as it stands."""
        return self.message[self.start:self.end]

    @property
    def disposition(self) -> str:
        return self.header.value(b"content-disposition")[:VALUE].partition(";")[0].strip().lower()

    @property
    def identity(self) -> str:
        """Content-ID without brackets."""
        return self.header.value(b"content-id").strip("<> ")[:NAME]

    @property
    def filename(self) -> str:
        """The name that it was given, without path and control characters (RFC 2183 §2.3, RFC 2231), "" without one."""
        told = Message()
        for name in ("Content-Disposition", "Content-Type"):
            told[name] = self.header.value(name.lower().encode())[:VALUE]
        try:
            given = told.get_filename("")
        except (ValueError, LookupError, TypeError):  # what RFC 2231 cannot mean
            return ""
        return _ODD.sub("_", decode(given.encode("utf-8", "replace").decode())).strip()[:NAME]

    def content(self) -> bytes:
        """Decoded, as far as it can be: letters that base64 has not are passed over (RFC 2045 §6.8)."""
        encoding = self.header.value(b"content-transfer-encoding").strip().lower()
        if encoding == "quoted-printable":
            return binascii.a2b_qp(self.raw)
        return _unbased(self.raw) if encoding == "base64" else self.raw


def _unbased(raw: bytes) -> bytes:
    letters = raw.translate(None, _FOREIGN).partition(b"=")[0]
    letters = letters[:-1] if len(letters) % 4 == 1 else letters
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def leaves(content: bytes) -> Iterator[Entity]:
    """The entities that are no multiparts, in their order. Raises Invalid for a header too large, Refuse for multiparts nested too deeply."""
    fields, body = split(content)
    return _Walk(body).entities(fields, 0, len(body), 0)


class _Walk:
    """One pass over a body; `left` is how many more parts, of any kind, it will look at."""

    def __init__(self, body: bytes):
        self.body = body
        self.left = PARTS

    def entities(self, fields: Header, start: int, end: int, depth: int) -> Iterator[Entity]:
        """What is in body[start:end], which this header describes."""
        kind, parameters = content_type(fields.value(b"content-type")[:10_000])
        boundary = parameters.get("boundary", "")[:200]
        if not (kind.startswith("multipart/") and boundary):
            yield Entity(fields, kind if _TYPE.fullmatch(kind) else OCTETS, parameters.get("charset", "").lower(), self.body, start, end)
            return
        if depth == DEPTH:
            raise Refuse(DEEP)
        for first, last in self._parts(start, end, b"--" + boundary.encode("utf-8", "surrogateescape")):
            try:
                inner, at = self._opened(first, last)
            except Invalid:
                continue
            yield from self.entities(inner, at, max(at, last), depth + 1)

    def _parts(self, start: int, end: int, delimiter: bytes) -> Iterator[tuple[int, int]]:
        """Where the parts of a multipart stand (RFC 2046 §5.1.1); one that is never closed ends with its parent."""
        first = -1
        for begins, stop, final in self._delimiters(start, end, delimiter):
            if first >= 0:
                self.left -= 1
                yield first, max(first, begins)
            if final or self.left <= 0:
                return
            first = min(stop, end)
        if first >= 0:
            yield first, end

    def _delimiters(self, start: int, end: int, delimiter: bytes) -> Iterator[tuple[int, int, bool]]:
        """(where the line break before it begins, where its line ends, whether it is the last) of each line that is the delimiter."""
        at = start if self.body.startswith(delimiter, start, end) else self._find(start, end, delimiter)
        while at >= 0:
            after = at + len(delimiter)
            line = self.body.find(b"\r\n", after, end)
            stop = end if line < 0 else line + 2
            rest = self.body[after:after + 80] if stop - after > 80 else self.body[after:stop]
            if rest.startswith(b"--") or not rest.strip():
                yield max(start, at - 2), stop, rest.startswith(b"--")
            at = self._find(after, end, delimiter)

    def _find(self, at: int, end: int, delimiter: bytes) -> int:
        found = self.body.find(b"\r\n" + delimiter, at, end)
        return found + 2 if found >= 0 else -1

    def _opened(self, first: int, last: int) -> tuple[Header, int]:
        """The header of a part, and where its own body begins."""
        if self.body.startswith(b"\r\n", first):
            return Header(), first + 2
        blank = self.body.find(b"\r\n\r\n", first, last)
        block = self.body[first:blank + 2 if blank >= 0 else last]
        fields, rest = split(block if block.endswith(b"\r\n") else block + b"\r\n")
        if rest:
            return fields, first
        return fields, blank + 4 if blank >= 0 else last
