"""Our own marks in mail that comes back: the trace field, return paths, and unsubscribe addresses and links, wherever they stand in it.

    Relay-Trace: TOKEN          each message that leaves has it (policies/verp.py): made for its recipient, or for the message where recipients share a copy
    bounce+TOKEN@               its reverse-path, where bounces come to us
    unsub+TOKEN@, /u/TOKEN      List-Unsubscribe

Reporters take out addresses and fields as they see fit, so each mark alone is enough. A mark is believed for its signature, not for where it stands; those that
stand first are those of the last hop. What is encoded within parts is read decoded.

A message whose own header has two of our traces has left here twice and comes a third time: it loops (B25). One may be an answer or a forward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

from relay.errors import Expired, Invalid, NotFound, Refuse
from relay.mail import entities
from relay.mail.header import Field, Header
from relay.mail.reply import Reply
from relay.mail.tokens import BOUNCE, TRACE, UNSUBSCRIBE

NAME = "Relay-Trace"  # not X-Relay-: those are orders to us, and are taken out or refused when mail is submitted again
SHARED = b"m"  # follows the id in a trace that was made for a message
OCTETS = 524_288  # of a report that are searched
MARKS = 20  # that are tried; each costs a signature
ROUNDS = 2  # traces of ours in a header; as many are a loop
LOOP = Reply(554, "5.4.6", "mail loop: this relay has sent the message on twice already")

_KINDS = {b"relay-trace": TRACE, b"bounce": BOUNCE, b"unsub": UNSUBSCRIBE, b"/u": UNSUBSCRIBE}
_MARK = re.compile(rb"(?:(relay-trace):[ \t]*(?:\r?\n[ \t]+)?|\b(bounce|unsub)\+|(/u)/)([a-z2-7]{24,90})(?![a-z2-7])", re.IGNORECASE)


def field(token: str) -> Field:
    """The trace field with this token."""
    return Field(NAME.lower().encode(), f"{NAME}: {token}\r\n".encode())


def marks(content: bytes) -> list[tuple[str, str]]:
    """(kind of token, token) of what looks like marks of ours, each once, as they come, at most MARKS."""
    found = ((_KINDS[(match[1] or match[2] or match[3]).lower()], match[4].decode().lower()) for octets in _texts(content) for match in _MARK.finditer(octets))
    return list(dict.fromkeys(islice(found, 4 * MARKS)))[:MARKS]


def looped(read: Callable[[str, str], bytes], fields: Header) -> bool:
    """Whether we have sent this message on ROUNDS times. `read` opens a token: relay.mail.tokens.Tokens.read."""
    found = fields.all(NAME.lower().encode())
    return len(found) >= ROUNDS and sum(_ours(read, each.value.strip()) for each in found[:MARKS]) >= ROUNDS


def _ours(read: Callable[[str, str], bytes], token: str) -> bool:
    try:
        return bool(read(TRACE, token))
    except (NotFound, Expired):
        return False


def _texts(content: bytes) -> Iterator[bytes]:
    """The message as it stands, then the parts of it that are encoded."""
    octets = content[:OCTETS]
    yield octets
    try:
        for each in entities.leaves(octets):
            if each.header.value(b"content-transfer-encoding").strip().lower() in ("base64", "quoted-printable"):
                yield each.content()
    except (Invalid, Refuse):  # no MIME that anybody reads: what stands in the open was searched
        return
