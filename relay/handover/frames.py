"""Frames between a worker and the main process: their kinds, what they carry, and a connection that reads and writes them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

from msgspec import msgpack

from relay import log
from relay.errors import Defer, Refuse, RelayError
from relay.mail.message import Message
from relay.mail.reply import Reply

HEAD = struct.Struct("<IBQ")  # payload octets, kind, number
LARGEST = 512 << 20  # octets of a payload; a message is far below, so more is a broken stream
JOINED = 65_536  # octets of a payload that are copied to its head, which costs less than a second write
CREDIT = 64 << 20  # octets that one worker may have waiting for their commit
PATIENCE = 30.0  # seconds that a worker looks for a new main process before it says 451
PAUSE = 0.1  # seconds between two looks

SUBMIT, COMMITTED, REFUSED, HAVE, UNKNOWN, COUNT, COUNTED, METRICS, CHANGED, STOP, WELCOME, GUARD, LARGE, DONE = range(14)

LOG = log.get("handover")

encode = msgpack.Encoder().encode
decode = msgpack.Decoder().decode
_messages = msgpack.Decoder(list[Message]).decode


def pack(messages: Sequence[Message]) -> bytes:
    """The messages as octets; what `unpack` gives back is equal."""
    return encode(messages)


def unpack(octets: bytes | memoryview) -> list[Message]:
    return _messages(octets)


class Stream(asyncio.Protocol):
    """Frames in both directions over one connection; a subclass has `frame(kind, number, payload)`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        if self.transport is not None:
            head = HEAD.pack(len(payload), kind, number)
            if len(payload) <= JOINED:
                self.transport.write(head + payload)
            else:  # not copied once more
                self.transport.write(head)
                self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        position, size = 0, HEAD.size
        while len(buffer) - position >= size:
            length, kind, number = HEAD.unpack_from(buffer, position)
            if length > LARGEST:
                LOG.error("frame too large", octets=length)
                self.transport.abort()  # type: ignore[union-attr]
                return
            end = position + size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as all_of_it, all_of_it[position + size:end] as payload:  # a large message is not copied before it is read
                self.frame(kind, number, payload)
            position = end
        del buffer[:position]

    def frame(self, kind: int, number: int, payload: bytes | memoryview) -> None:
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None


def error_of(payload: bytes | memoryview) -> RelayError:
    code, enhanced, text, retry_after = decode(payload)
    reply = Reply(code, enhanced, text)
    return Refuse(reply) if reply.permanent else Defer(reply, retry_after)


def refusal(error: BaseException) -> bytes:
    reply = error.reply if isinstance(error, RelayError) else Reply(451, "4.3.0", "the message could not be stored, try again later")
    return encode((reply.code, reply.enhanced, reply.text, getattr(error, "retry_after", 30.0)))
