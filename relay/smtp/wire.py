"""A message and its envelope as octets for the next hop (RFC 5321 §4.1.1, §4.5.2; RFC 1870, 3461, 6152, 6531).

Nothing leaves with a bare CR, a bare LF or a NUL, in commands or in content: a receiver that ends lines elsewhere would see a second message in it
(CVE-2023-51764). Content is looked at once per transaction and copied only where a line begins with a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.errors import Invalid
from relay.mail.lines import clean
from relay.mail.reply import Reply

PIECE = 262_144  # bytes handed to the transport at once; a larger message is prepared while it is sent
DOT = b".\r\n"

_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")
_BREAKS = re.compile(r"[ <>]")
_PARAMETER = re.compile(r"[!-~]{1,500}")  # what an esmtp-value may hold, "=" included since xtext never has it (RFC 3461 §4)


def pieces(content: bytes, piece: int = PIECE) -> Iterator[bytes]:
    """The content dot-stuffed, with the final dot, in pieces; raises Invalid at a bare CR, a bare LF or a NUL.

    content  lines ending in CRLF; a missing last CRLF is added
    piece    bytes in one, before its dots are doubled; at least 3
    """
    begin, size, fresh = 0, len(content), True
    while size - begin > piece:
        end = content.rfind(b"\n", begin, begin + piece) + 1 or begin + piece - 1
        end -= content[end - 1] == 13  # a CRLF stays together
        yield _stuffed(content[begin:end], fresh)
        fresh, begin = content[end - 1] == 10, end
    last = content[begin:] if begin else content
    yield _stuffed(last, fresh) + (DOT if last.endswith(b"\n") or not content else b"\r\n.\r\n")


def parted(head: bytes, body: bytes) -> Iterator[bytes]:
    """As `pieces`, of a message whose body stands apart from `head`, its header with the empty line."""
    yield _stuffed(head, True)
    yield from pieces(body)


def _stuffed(piece: bytes, fresh: bool) -> bytes:
    """A piece with its leading dots doubled; `fresh`: it begins a line."""
    if not clean(piece):
        raise Invalid("content", "the message has a bare CR, a bare LF or a NUL", Reply(550, "5.6.0", "the message has a bare CR, a bare LF or a NUL"))
    last = piece.rfind(b".")  # encoded attachments have none: most of a large message needs no second look
    if last >= 0:
        if piece.find(b"\r\n.", 0, last + 1) >= 0:
            piece = piece.replace(b"\r\n.", b"\r\n..")
        if fresh and piece.startswith(b"."):
            piece = b"." + piece
    return piece


def unstuffed(wire: bytes) -> bytes:
    """What a receiver makes of `pieces`: the content without the final dot, its leading dots single again."""
    content = wire[: -len(DOT)]
    content = content[1:] if content.startswith(b".") else content
    return content.replace(b"\r\n.", b"\r\n")


def mail(sender: str, parameters: str = "") -> bytes:
    """The MAIL command; `parameters` begins with a space."""
    return b"MAIL FROM:<%b>%b\r\n" % (path(sender, "sender"), parameters.encode("ascii"))


def rcpt(recipient: str, parameters: str = "") -> bytes:
    """The RCPT command."""
    return b"RCPT TO:<%b>%b\r\n" % (path(recipient, "recipient"), parameters.encode("ascii"))


def path(address: str, field: str) -> bytes:
    """An address as it stands between < and >; raises Invalid where it could end the command or the path."""
    plain = address.isascii() and address.isprintable()
    if (not plain and _CONTROL.search(address)) or ('"' not in address and _BREAKS.search(address)):
        text = f"the {field} address has a character that no address has"
        raise Invalid(field, text, Reply(553, "5.1.7" if field == "sender" else "5.1.3", text))
    return address.encode("utf-8")


def parameter(keyword: str, value: str) -> str:
    """" KEYWORD=value", or "" for an empty value or one that a parameter cannot hold (then the request is lost, not the mail)."""
    return f" {keyword}={value}" if value and _PARAMETER.fullmatch(value) else ""
