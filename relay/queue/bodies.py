"""Messages that are due, in memory as long as there is room, else read again when a courier asks.

Mail that has just been accepted is kept from the door to the wire, so that its delivery needs no read. What is kept is bounded in bytes; beyond it a message
stays on disk. Couriers that ask at the same time share one read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from relay.errors import NotFound
from relay.mail.message import Message
from relay.metrics import counter, gauge
from relay.store import messages
from relay.store.engine import Store

ROOM = 64_000_000  # bytes of messages kept
TOGETHER = 32  # messages of one read
OVERHEAD = 1_500  # bytes of a Message beside its octets

HELD = gauge("queue_bytes", "Octets of waiting messages kept in memory")
READS = counter("queue_messages_read_total", "Messages read back from the store for delivery")


class Bodies:
    """Messages by id, with the number of their recipients that are due."""

    __slots__ = ("_asked", "_counts", "_kept", "_reader", "_sizes", "_store", "room", "used")

    def __init__(self, store: Store, room: int = ROOM):
        self._store, self.room = store, room
        self.used = 0
        self._kept: dict[int, Message] = {}
        self._sizes: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._asked: dict[int, asyncio.Future[Message | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    def keep(self, message: Message) -> bool:
        """Keep it while recipients of it are due, if there is room."""
        size = _size(message)
        if self.used + size > self.room or message.id in self._kept:
            return False
        self._kept[message.id] = message
        self._sizes[message.id] = size
        self.used += size
        return True

    def enter(self, message_id: int, count: int = 1) -> None:
        """So many more of its recipients are due."""
        self._counts[message_id] = self._counts.get(message_id, 0) + count

    def leave(self, message_id: int) -> None:
        """One of them is not due any more; the last one takes the message along."""
        left = self._counts.get(message_id, 1) - 1
        if left > 0:
            self._counts[message_id] = left
            return
        self._counts.pop(message_id, None)
        if self._kept.pop(message_id, None) is not None:
            self.used -= self._sizes.pop(message_id)

    def get(self, message_id: int) -> Message | None:
        return self._kept.get(message_id)

    async def load(self, message_id: int) -> Message | None:
        """The message from the store, None if it is not there any more."""
        kept = self._kept.get(message_id)
        if kept is not None:
            return kept
        asked = self._asked.get(message_id)
        if asked is None:
            asked = self._asked[message_id] = asyncio.get_running_loop().create_future()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return await asyncio.shield(asked)

    async def _read(self) -> None:
        """Read what was asked for, together; whoever asks meanwhile is in the next read."""
        while self._asked:
            wanted = list(self._asked)[:TOGETHER]
            try:
                found = await self._store.read(_load_many, wanted)
            except Exception as error:
                for each in wanted:
                    self._tell(each, None, error)
                continue
            READS.inc(len(wanted))
            for each in wanted:
                message = found.get(each)
                if message is not None and each in self._counts:
                    self.keep(message)
                self._tell(each, message, None)
        HELD.set(self.used)

    def _tell(self, message_id: int, message: Message | None, error: Exception | None) -> None:
        asked = self._asked.pop(message_id)
        if asked.done():
            return
        if error is not None:
            asked.set_exception(error)
            asked.exception()  # retrieved: the one who asked may have been cancelled
        else:
            asked.set_result(message)


def _load_many(conn: Any, wanted: Sequence[int]) -> dict[int, Message]:
    """Those of these messages that are still there, to their recipients who wait."""
    found = {}
    for number in wanted:
        try:
            found[number] = messages.load(conn, number)
        except NotFound:
            continue
    return found


def _size(message: Message) -> int:
    return len(message.body) + message.header.size + OVERHEAD
