"""The intake: makes admitted messages durable and tells the queue runner, while they are still in memory.

New mail is refused, temporarily, while the store is unhealthy or the disk is nearly full. A write that the store has not begun within WITHDRAW seconds is
taken back and the client hears 451; one that has begun is waited for, so nobody hears 451 for mail that goes out (A3). Who stops waiting undoes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from relay.clock import Clock
from relay.errors import Defer, RelayError
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.store import messages as noun
from relay.store.engine import Store
from relay.store.writes import Write

WITHDRAW = 60.0  # seconds; a client gives up later than this (RFC 5321 §4.5.3.2.6 asks it to wait 10 minutes)
LOOK = 1.0  # seconds between two looks at what waits

TOO_LONG = Reply(451, "4.3.0", "the message store is too slow, try again later")


class Waits(Protocol):
    def accepted(self, message: Message) -> None: ...


class Intake:
    """`runner` hears of each message after its commit."""

    def __init__(self, store: Store, runner: Waits, clock: Clock):
        self._store = store
        self._runner = runner
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Write]] = deque()

    def commit(self, messages: Sequence[Message]) -> asyncio.Future[int]:
        """The id of the first message once all are durable, or of the one that had its idempotency key before; it fails with Defer or StoreError.

        A future and callbacks, no task: this runs for every message. Raises Defer at once where nothing more can be taken.
        """
        refusal = self._store.intake_open()
        if refusal is not None:
            raise Defer(refusal)
        write = self._store.begin(noun.accept_many, tuple(messages), many=True, size=sum(message.size for message in messages), rows=len(messages))
        self._waiting.append((self._clock.elapsed(), write))
        answer = self._loop.create_future()
        write.future.add_done_callback(partial(self._committed, messages, answer))
        return answer

    async def commit_each(self, submissions: Sequence[Sequence[Message]]) -> list[int | RelayError]:
        """As `commit` for submissions that came together: for each the id, or its error. Raises Defer or StoreError where none could be written."""
        refusal = self._store.intake_open()
        if refusal is not None:
            raise Defer(refusal)
        size = sum([message.size for messages in submissions for message in messages])
        rows = sum(map(len, submissions))
        write = self._store.begin(noun.accept_many, submissions, many=True, size=size, rows=rows, each=True)
        self._waiting.append((self._clock.elapsed(), write))
        write.future.add_done_callback(partial(self._each_committed, submissions))
        try:
            return await asyncio.shield(write.future)
        except asyncio.CancelledError:
            if not write.future.cancelled():
                raise
            raise Defer(TOO_LONG) from None  # withdrawn

    def _each_committed(self, submissions: Sequence[Sequence[Message]], written: asyncio.Future[list[Any]]) -> None:
        if written.cancelled() or written.exception() is not None:
            return
        for messages, result in zip(submissions, written.result(), strict=True):
            if result == messages[0].id:
                for message in messages:
                    self._runner.accepted(message)

    def _committed(self, messages: Sequence[Message], answer: asyncio.Future[int], written: asyncio.Future[int]) -> None:
        error = Defer(TOO_LONG) if written.cancelled() else written.exception()
        if error is None and written.result() == messages[0].id:
            for message in messages:
                self._runner.accepted(message)
        if answer.done():  # who asked has gone; the message goes its way
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(written.result())

    async def have(self, number: int) -> bool:
        """Whether the store has the message of this id."""
        return await self._store.read(noun.have, number)

    async def run(self) -> None:
        """Take back what the store has not begun in time, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            now = self._clock.elapsed()
            while self._waiting and (self._waiting[0][1].future.done() or now - self._waiting[0][0] > WITHDRAW):
                _, write = self._waiting.popleft()
                if not write.future.done():
                    self._store.withdraw(write)
