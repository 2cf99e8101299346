"""The header of a message: a tuple of fields that keep their octets (RFC 5322 §2.2, §3.6.8).

Reading, prepending and removing fields never re-folds or re-encodes another one. Values given by people are checked for CR, LF and NUL both as
they stand and after RFC 2047 decoding, because a later reader will decode them (CVE-2024-6923).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.header import decode_header
from email.utils import formatdate
from functools import lru_cache

from msgspec import Struct

from relay.errors import Invalid
from relay.mail.reply import Reply

BLOCK = 262_144  # bytes of header we accept
FIELDS = 1_000  # fields of header we accept; a folded one counts once, a To of a thousand people is nobody's attack

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r]*(?:\r(?!\n)[^\r]*|\r\n[ \t][^\r]*)*\r\n")
_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTROL = re.compile(r"[\r\n\0]")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


class Field(Struct, frozen=True, gc=False):
    """`name` in lower case, `raw` with its name as written, its folds and its final CRLF."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> str:
        """Unfolded and stripped; UTF-8 where it is, else Latin-1, never an error."""
        value = self.raw.partition(b":")[2].strip()
        if b"\r\n" in value:
            value = _FOLD.sub(b"", value)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")


class Header(Struct, frozen=True):
    """Fields in their order. `first(b"from")` and friends take the name in lower case."""

    fields: tuple[Field, ...] = ()

    @property
    def size(self) -> int:
        size = 0
        for f in self.fields:
            size += len(f.raw)
        return size

    def raws(self) -> Iterator[bytes]:
        return (f.raw for f in self.fields)

    def first(self, name: bytes) -> Field | None:
        for f in self.fields:
            if f.name == name:
                return f
        return None

    def all(self, name: bytes) -> list[Field]:
        return [f for f in self.fields if f.name == name]

    def value(self, name: bytes) -> str:
        """The value of the first field of this name, "" without one."""
        found = self.first(name)
        return found.value if found else ""

    def prepend(self, *fields: Field) -> Header:
        return Header((*fields, *self.fields))

    def append(self, *fields: Field) -> Header:
        return Header((*self.fields, *fields))

    def without(self, *names: bytes) -> Header:
        return Header(tuple(f for f in self.fields if f.name not in names))

    def dated(self, at: float) -> Header:
        """With `at`, UTC seconds, in its Date field; without such a field it stays without."""
        stamp = Field(b"date", f"Date: {date(at)}\r\n".encode())
        return Header(tuple(stamp if f.name == b"date" else f for f in self.fields))


def date(at: float) -> str:
    """UTC seconds as a date and time (RFC 5322 §3.3), in UTC: `Mon, 21 Sep 2026 14:13:20 +0000`."""
    return formatdate(int(at))[:-5] + "+0000"


def make(name: str, value: str) -> Field:
    """A field from a name and a one-line value, folded by nobody; raises Invalid for what would break the message.

    name   printable ASCII without colon, at most 76 characters
    value  no CR, LF or NUL, neither as it stands nor inside an encoded word
    """
    if _CONTROL.search(value) or ("=?" in value and _CONTROL.search(_decoded(value))):
        raise Invalid(name, f"the value of {name} contains a line break or NUL")
    return plain(name, value)


def plain(name: str, value: str) -> Field:
    """As `make`, of a value that has neither controls nor encoded words."""
    return Field(_lower(name), f"{name}: {value}\r\n".encode("utf-8", "surrogateescape"))


@lru_cache(256)
def _lower(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise Invalid(name, f"{name!r} is not a header field name")
    return name.lower().encode()


def _decoded(value: str) -> str:
    try:
        return "".join(part.decode(charset or "latin-1", "replace") if isinstance(part, bytes) else part for part, charset in decode_header(value))
    except (LookupError, ValueError) as error:
        raise Invalid("header", f"an encoded word cannot be read: {error}") from None


def split(content: bytes) -> tuple[Header, bytes]:
    """Header and body of a message whose lines end in CRLF.

    A block that does not start with a field is all body (a message without header). Raises Invalid for more than BLOCK bytes or FIELDS fields.
    """
    fields, position, match = [], 0, _FIELD.match
    while (found := match(content, position)) is not None:
        fields.append(Field(found[1].lower(), found[0]))
        position = found.end()
        if position > BLOCK or len(fields) > FIELDS:
            raise Invalid("header", "the header is too large", Reply(552, "5.3.4", f"header over {BLOCK} bytes or {FIELDS} fields"))
    body = content[position + 2:] if content.startswith(b"\r\n", position) else content[position:]
    return Header(tuple(fields)), body
