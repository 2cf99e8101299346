"""Text outside ASCII in header fields: encoded words, made and read (RFC 2047), and fields folded between words (RFC 5322 §2.2.3)."""

from __future__ import annotations

import re
from base64 import b64encode
from email.header import decode_header

from relay.errors import Invalid
from relay.mail.header import Field, make, plain

CHUNK = 45  # octets of text in an encoded word: 60 in base 64, 72 with its frame, of 75 allowed (RFC 2047 §2)
LINE = 78  # columns of a line (RFC 5322 §2.1.1)
WORD = 900  # a longer word could not be folded below the 998 octets of §2.1.1, so it is encoded

_ADJACENT = re.compile(r"(\?=)\s+(?==\?)")


def encode(text: str) -> str:
    """The text as it stands if it is printable ASCII without "=?" or overlong words, else as encoded words separated by spaces."""
    if text.isascii() and text.isprintable() and "=?" not in text and (len(text) < WORD or all(len(word) < WORD for word in text.split(" "))):
        return text
    words, chunk = [], b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > CHUNK:
            words.append(chunk)
            chunk = b""
        chunk += octets
    return " ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in (*words, chunk))


def decode(text: str) -> str:
    """The text with its encoded words read; what cannot be read stays as it is."""
    if "=?" not in text:
        return text
    try:
        parts = decode_header(_ADJACENT.sub(r"\1 ", text))
        found = "".join(part.decode(charset or "latin-1", "replace") if isinstance(part, bytes) else part for part, charset in parts)
        return found if found.isascii() else found.encode("utf-8", "replace").decode()  # UTF-7 can say half a character
    except (LookupError, ValueError):
        return text


def unstructured(name: str, text: str) -> Field:
    """A field such as Subject from any text, encoded where needed and folded at spaces; raises Invalid for CR, LF or NUL in it."""
    if text.isascii() and text.isprintable() and "=?" not in text and len(name) + 2 + len(text) <= LINE:
        return plain(name, text)
    if any(c in text for c in "\r\n\0"):
        raise Invalid(name, f"the value of {name} contains a line break or NUL")
    return folded(make(name, encode(text)))


def folded(field: Field) -> Field:
    """The one-line field folded before the space that would pass LINE columns; a longer word keeps its line."""
    if len(field.raw) <= LINE + 2:
        return field
    lines: list[bytes] = []
    first, *rest = field.raw[:-2].split(b" ")
    line = first
    for word in rest:
        # A line of spaces alone would end the header for some readers (RFC 5322 §3.2.2), so it is never made.
        if len(line) + 1 + len(word) > LINE and word and line.strip() and line is not first:
            lines.append(line)
            line = b""
        line = line + b" " + word
    return Field(field.name, b"\r\n".join((*lines, line)) + b"\r\n")
