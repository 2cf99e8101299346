"""Messages that are due, in memory as long as there is room, else read again when a courier asks.

Mail that has just been accepted is kept from the door to the wire, so that its delivery needs no read. What is kept is bounded in bytes; beyond it a message
stays on disk. Couriers that ask at the same time share one read, and what was read is kept where further recipients in memory need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from relay.errors import NotFound
from relay.mail.message import Message
from relay.metrics import counter, gauge, histogram
from relay.queue.waiting import Waiting
from relay.store import messages
from relay.store.engine import Store

ROOM = 64_000_000  # bytes of messages kept
TOGETHER = 32  # messages of one read
READ = 8_000_000  # bytes after which a read takes no further message
LARGE = 1_000_000  # bytes from which a message is left on disk until a courier asks for it
HEAVY = 20_000_000  # bytes of large messages in the hands of couriers at which the next one waits; each is in memory three times while it leaves
PATIENCE = 5.0  # seconds that a large message waits for others to be carried; a slow site may keep its own for hours
OVERHEAD = 1_500  # bytes of a Message beside its octets

HELD = gauge("queue_bytes", "Octets of waiting messages kept in memory")
READS = counter("queue_messages_read_total", "Messages read back from the store for delivery")
LOADED = histogram("message_load_seconds", "One read of messages from the store, up to 32 together")


@dataclass(slots=True)
class _Kept:
    message: Message
    size: int
    count: int


class Bodies:
    """Messages by id, each with the number of its recipients that are due. `known` are the recipients in memory."""

    __slots__ = ("_asked", "_heavy", "_kept", "_known", "_lighter", "_reader", "_store", "room", "used")

    def __init__(self, store: Store, known: Mapping[int, Waiting], room: int = ROOM):
        self._store, self._known, self.room = store, known, room
        self.used = 0  # bytes
        self._kept: dict[int, _Kept] = {}
        self._asked: dict[int, asyncio.Future[Message | None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._heavy = 0  # bytes of large messages that couriers have
        self._lighter = asyncio.Event()

    def keep(self, message: Message, count: int = 0) -> bool:
        """Keep it while recipients of it are due, if there is room; so many of them have entered already."""
        size = len(message.body) + message.header.size + OVERHEAD
        if size > LARGE or self.used + size > self.room or message.id in self._kept:
            return False
        self._kept[message.id] = _Kept(message, size, count)
        self.used += size
        return True

    def enter(self, message_id: int) -> None:
        """One more of its recipients is due."""
        kept = self._kept.get(message_id)
        if kept is not None:
            kept.count += 1

    def leave(self, message_id: int) -> None:
        """One of them is not due any more; the last one takes the message along."""
        kept = self._kept.get(message_id)
        if kept is None:
            return
        kept.count -= 1
        if kept.count <= 0:
            del self._kept[message_id]
            self.used -= kept.size

    def get(self, message_id: int) -> Message | None:
        kept = self._kept.get(message_id)
        return kept.message if kept is not None else None

    async def load(self, message_id: int) -> Message | None:
        """The message from the store, None if it is not there any more."""
        kept = self._kept.get(message_id)
        if kept is not None:
            return kept.message
        asked = self._asked.get(message_id)
        if asked is None:
            asked = self._asked[message_id] = asyncio.get_running_loop().create_future()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return await asyncio.shield(asked)

    @contextmanager
    def carried(self, message: Message | None) -> Iterator[None]:
        """A courier has the message; a large one counts until he is done with it."""
        size = 0 if message is None or len(message.body) < LARGE else len(message.body)
        self._heavy += size
        try:
            yield
        finally:
            self._heavy -= size
            if size:
                self._lighter.set()

    async def _room(self) -> None:
        """Wait, but not for ever, until couriers have put large messages down."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._heavy >= HEAVY:
                    self._lighter.clear()
                    await self._lighter.wait()

    async def _read(self) -> None:
        """Read what was asked for, together; whoever asks meanwhile is in the next read."""
        while self._asked:
            await self._room()
            wanted = list(self._asked)[:TOGETHER]
            try:
                with LOADED.time():
                    found = await self._store.read(_load_many, wanted)
            except Exception as error:
                for each in wanted:
                    self._tell(each, None, error)
                continue
            READS.inc(len(found))
            for each, message in found.items():
                if message is not None and (others := self._due(message)) > 1:
                    self.keep(message, others)
                self._tell(each, message, None)
        HELD.set(self.used)

    def _due(self, message: Message) -> int:
        """How many of its recipients are in memory and not done."""
        found = (self._known.get(each.id) for each in message.envelope.recipients)
        return sum(waiting is not None and not waiting.done for waiting in found)

    def _tell(self, message_id: int, message: Message | None, error: Exception | None) -> None:
        asked = self._asked.pop(message_id)
        if asked.done():
            return
        if error is not None:
            asked.set_exception(error)
            asked.exception()  # retrieved: the one who asked may have been cancelled
        else:
            asked.set_result(message)


def _load_many(conn: Any, wanted: Sequence[int]) -> dict[int, Message | None]:
    """The first of these messages, up to READ bytes, each to its recipients who wait; None for one that is not there any more."""
    found: dict[int, Message | None] = {}
    size = 0
    for number in wanted:
        try:
            message = found[number] = messages.load(conn, number)
        except NotFound:
            found[number] = None
            continue
        size += len(message.body)
        if size > READ:
            break
    return found
