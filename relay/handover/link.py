"""The worker's end: what it submits, asks and hears, and what it does when the main process is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.errors import Defer, RelayError
from relay.handover.frames import (
    CHANGED,
    COMMITTED,
    COUNT,
    COUNTED,
    CREDIT,
    DONE,
    GUARD,
    HAVE,
    LARGE,
    LOG,
    METRICS,
    PATIENCE,
    PAUSE,
    REFUSED,
    STOP,
    SUBMIT,
    UNKNOWN,
    WELCOME,
    Stream,
    decode,
    encode,
    error_of,
    pack,
)
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.store import faults


class Link(Stream):
    """The worker's end."""

    def __init__(self, path: Path, changed: Callable[[str], None], stop: Callable[[], None]):
        super().__init__()
        self._path = path
        self._changed = changed
        self._stop = stop
        self.heard: Callable[[str, bool], None] | None = None  # an AUTH that another worker has seen
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._in_flight = 0
        self._credit = CREDIT
        self._welcome: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        """Connected and welcomed; raises OSError when there is no main process."""
        loop = asyncio.get_running_loop()
        self._welcome = loop.create_future()
        self._buffer.clear()
        await loop.create_unix_connection(lambda: self, str(self._path))
        await self._welcome

    async def commit(self, messages: Sequence[Message]) -> int:
        """The id under which the main process committed the messages; raises Defer when it could not, or is gone."""
        payload = pack(messages)
        if self._in_flight + len(payload) > self._credit:
            raise Defer(Reply(452, "4.3.1", "too much mail is waiting for the disk, try again later"))
        if self.transport is None:
            raise Defer(Reply(451, "4.3.0", "the relay is restarting, try again later"))
        self._in_flight += len(payload)
        answer = self._expect(messages[0].id)
        self.send(SUBMIT, messages[0].id, payload)
        faults.point("handover.sent")
        try:
            return await asyncio.shield(answer)
        finally:
            self._in_flight -= len(payload)

    async def count(self, *question: Any) -> float:
        """What the main process's counters say to (name, limit, period, amount)."""
        return await self._ask(COUNT, encode(question))

    async def _ask(self, kind: int, payload: bytes) -> Any:
        self._numbers += 1
        if self.transport is None:
            raise Defer(Reply(451, "4.3.0", "the relay is restarting, try again later"))
        answer = self._expect(self._numbers)
        self.send(kind, self._numbers, payload)
        return await answer

    @asynccontextmanager
    async def large(self) -> AsyncIterator[None]:
        """While a large message goes through: the main process grants it to one worker after the other, since each copies it several times."""
        await self._ask(LARGE, b"")
        try:
            yield
        finally:
            self.send(DONE, 0)

    def guard(self, client: str, failed: bool) -> None:
        """Tell the other workers of an AUTH."""
        self.send(GUARD, 0, encode((client, failed)))

    def metrics(self, deltas: Any) -> None:
        self.send(METRICS, 0, encode(deltas))

    def _expect(self, number: int) -> asyncio.Future[Any]:
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        return answer

    def frame(self, kind: int, number: int, payload: bytes | memoryview) -> None:
        if kind == COMMITTED:
            faults.point("handover.heard")
            self._answer(number, decode(payload))
        elif kind == REFUSED:
            self._answer(number, error_of(payload))
        elif kind == UNKNOWN:
            self._answer(number, Defer(Reply(451, "4.3.0", "the relay restarted before it had the message, try again")))
        elif kind == COUNTED:
            self._answer(number, decode(payload))
        elif kind == CHANGED:
            self._changed(bytes(payload).decode())
        elif kind == WELCOME:
            self._credit = number
            if self._welcome and not self._welcome.done():
                self._welcome.set_result(None)
        elif kind == GUARD and self.heard is not None:
            self.heard(*decode(payload))
        elif kind == STOP:
            self._stop()

    def _answer(self, number: int, result: Any) -> None:
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            return
        if isinstance(result, RelayError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(ConnectionResetError("the main process is gone"))
        self._stop()

    async def settle(self) -> None:
        """After the main process is gone: ask its successor about each message that still waits; at the latest after PATIENCE every client has an answer."""
        if self.transport is None and self._waiting:
            owed = list(self._waiting)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._reconnect()
                    for number in owed:
                        self.send(HAVE, number)
                    await asyncio.wait([self._waiting[number] for number in owed if number in self._waiting])
            except TimeoutError:
                LOG.warning("no successor", owed=len(owed))
        for number in list(self._waiting):
            self.frame(UNKNOWN, number, b"")

    async def _reconnect(self) -> None:
        while True:
            try:
                await self.connect()
                return
            except OSError:
                await asyncio.sleep(PAUSE)
