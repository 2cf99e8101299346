"""Completes a submitted message: what RFC 5322 wants and the sender left out is put on top, what must not travel is taken out (RFC 6409 §8).

Added where missing: Received (RFC 5321 §4.4), Date, Message-ID, From (the reverse-path), To for mail without any, and the MIME fields that say what the
body is (RFC 2045 §4, RFC 6152). Taken out: Bcc, which is for the sender's eyes (RFC 5322 §3.6.3), and Return-Path, which the last hop writes. Every
other octet stays as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from relay.mail import ids
from relay.mail.header import Field, Header, date
from relay.mail.message import Decision, Message, Origin
from relay.policy import Services
from relay.policy import options as known

STRIPPED = frozenset((b"bcc", b"return-path"))

_STRANGE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


def make(options: Mapping[str, Any], services: Services) -> Headers:
    known(options)
    return Headers(services)


class Headers:
    """The policy."""

    def __init__(self, services: Services):
        self._hostname = services.hostname
        self._clock = services.clock

    async def apply(self, message: Message) -> Sequence[Message]:
        return (self._completed(message),)

    async def apply_each(self, messages: Sequence[Message]) -> list[Message]:
        return [self._completed(message) for message in messages]

    def _completed(self, message: Message) -> Message:
        fields = message.header.fields
        names = {field.name for field in fields}
        if not names.isdisjoint(STRIPPED):
            fields = tuple(field for field in fields if field.name not in STRIPPED)
        release = message.wishes.send_at
        if release is not None and release > message.received_at and b"date" in names:
            # A message that leaves weeks later is dated when it leaves; an old Date reads as spam.
            fields = tuple(field for field in fields if field.name != b"date")
            names.discard(b"date")
        public = ids.public("em", message.id)
        added = self._missing(message, names, public)
        header = Header((self._received(message, public), *added, *fields))
        if not added and len(fields) == len(message.header.fields):
            return message.with_header(header)
        done = _summary(tuple([field.raw[:len(field.name)] for field in added]), STRIPPED & names)
        return message.with_header(header, done)

    def _missing(self, message: Message, names: set[bytes], public: str) -> list[Field]:
        """The fields to add, in the order in which they will stand."""
        added = []
        if b"date" not in names:
            added.append(_dated(int(message.wishes.send_at or message.received_at)))
        if b"message-id" not in names:
            added.append(Field(b"message-id", f"Message-ID: <{public}@{self._hostname}>\r\n".encode()))
        if b"from" not in names and message.envelope.sender:
            added.append(_field(b"From", message.envelope.sender))
        if b"to" not in names and b"cc" not in names:
            added.append(_field(b"To", "undisclosed-recipients:;"))
        if b"mime-version" not in names or b"content-type" not in names or b"content-transfer-encoding" not in names:
            added += _mime(message.body, names)
        return added

    def _received(self, message: Message, public: str) -> Field:
        """The trace field of this hop: RFC 5321 §4.4 with the keywords of RFC 3848, `for` only where it tells nobody about another recipient."""
        people = message.recipients
        whom = f" for <{people[0].address}>" if len(people) == 1 and people[0].address.isascii() else ""
        stamp = _stamp(int(message.received_at))
        return Field(b"received", f"Received: {_hop(message.origin, self._hostname)}{public}{whom};\r\n\t{stamp}\r\n".encode())


@lru_cache(64)
def _stamp(second: int) -> str:
    """RFC 5322 §3.3 date and time in UTC; many messages share one."""
    return date(second)


@lru_cache(64)
def _dated(second: int) -> Field:
    return _field(b"Date", date(second))


@lru_cache(1_024)  # a session's messages have one, those of an application's server too
def _hop(origin: Origin, hostname: str) -> str:
    """The trace field up to the id."""
    parts = ["by ", hostname]
    if origin.client:
        address = f"IPv6:{origin.client}" if ":" in origin.client else origin.client
        parts = ["from ", _clean(origin.helo) or "unknown", " ([", _clean(address), "])\r\n\tby ", hostname]
    if origin.with_:
        parts += (" with ", origin.with_)
    if origin.tls:
        parts += ("\r\n\t(using ", origin.tls, ")")
    return "".join((*parts, "\r\n\tid "))


def _field(name: bytes, value: str) -> Field:
    return Field(name.lower(), b"%b: %b\r\n" % (name, value.encode()))


def _mime(body: bytes, names: set[bytes]) -> list[Field]:
    """What says how to read the body, without changing how it was read before: plain text by default, 8bit where there are such octets."""
    ascii_only = body.isascii()
    added = []
    if b"mime-version" not in names:
        added.append(MIME)
    if b"content-type" not in names:
        added.append(TYPES["us-ascii" if ascii_only else _charset(body)])
    if b"content-transfer-encoding" not in names and not ascii_only:
        added.append(EIGHT_BIT)
    return added


def _charset(body: bytes) -> str:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown-8bit"  # RFC 1428 §2: better said than guessed
    return "utf-8"


MIME = _field(b"MIME-Version", "1.0")
EIGHT_BIT = _field(b"Content-Transfer-Encoding", "8bit")
TYPES = {charset: _field(b"Content-Type", f"text/plain; charset={charset}") for charset in ("us-ascii", "utf-8", "unknown-8bit")}


def _clean(text: str) -> str:
    """What a client said of itself, without what could end the comment or the line."""
    return _STRANGE.sub("?", text[:255])


@lru_cache(256)
def _summary(added: tuple[bytes, ...], removed: frozenset[bytes]) -> Decision:
    parts = []
    if added:
        parts.append("added " + ", ".join([name.decode() for name in added]))
    if removed:
        parts.append("took out " + ", ".join(sorted(name.decode() for name in removed)))
    return Decision("headers", "changed", "; ".join(parts))
