"""What servers say, read: octets to replies by aiosmtplib's parser, and the answer to EHLO to the extensions in it.

Servers say the same to everybody, so lines and EHLO answers are remembered (a few thousand each) and most replies cost a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from aiosmtplib.errors import SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol

from relay.mail.reply import Reply, parse

LINE = 600  # octets of a reply line that is worth remembering (RFC 5321 §4.5.3.1.5 allows 512)
TEXT = 2_000  # characters of a reply that we keep


@dataclass(frozen=True, slots=True)
class Extensions:
    """What EHLO offered; `size` 0 means no limit told."""

    name: str = ""  # what the server calls itself
    pipelining: bool = False
    size: int = 0
    eightbit: bool = False
    utf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def reply(code: int, text: str) -> Reply:
    """A server's answer as a Reply, its text cut and free of broken UTF-8; odd codes stay what they are."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return parse(code, text[:TEXT])


class _Scratch:
    """Octets for aiosmtplib's parser without a connection around them."""

    __slots__ = ("_buffer",)
    take = SMTPProtocol._read_response_from_buffer

    def __init__(self, data: bytes):
        self._buffer = bytearray(data)


def whole(data: bytes) -> Iterable[Reply]:
    """The replies in octets that hold nothing but whole ones, as nearly all do; none of them otherwise."""
    found = []
    for line in data[:-2].split(b"\r\n"):
        answer = _line(line) if len(line) < LINE else None
        if answer is None:
            return _lines(data) if len(data) < LINE * 4 else ()
        found.append(answer)
    return found


@lru_cache(1024)
def _lines(data: bytes) -> tuple[Reply, ...]:
    """The replies in octets with a reply of several lines, such as that to EHLO; remembered, since servers repeat themselves."""
    scratch, found = _Scratch(data), []
    try:
        while scratch._buffer and (said := scratch.take()) is not None:
            found.append(reply(said.code, said.message))
    except SMTPResponseException:
        return ()
    return tuple(found) if not scratch._buffer else ()


@lru_cache(4096)
def _line(line: bytes) -> Reply | None:
    """The reply in one line, remembered like those of several; None if it is not the whole of one."""
    if not line[:3].isdigit() or line[3:4] != b" " or b"\n" in line:
        return None
    return reply(int(line[:3]), line[4:].strip(b" \t\r").decode("utf-8", "surrogateescape"))


def first_word(text: str) -> str:
    return text.partition("\n")[0].partition(" ")[0]


@lru_cache(1024)
def offered(text: str) -> Extensions:
    """The extensions in an answer to EHLO; servers say the same to everybody, so it is read once."""
    found, mechanisms = parse_esmtp_extensions(text)
    size = found.get("size", "").strip()
    return Extensions(
        name=first_word(text), pipelining="pipelining" in found, size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else 0,
        eightbit="8bitmime" in found, utf8="smtputf8" in found, dsn="dsn" in found, starttls="starttls" in found,
        auth=frozenset(each.lower() for each in mechanisms))
