"""How submission workers hand admitted mail to the main process: frames over a Unix socket, answered only after the commit.

    worker (Link)                        main (Hub)
      SUBMIT number, messages  ─────────►  commit
             ◄─────────  COMMITTED number, message id | REFUSED number, reply
      COUNT number, name ...   ─────────►  counters          (limits hold across workers)
      LARGE number, DONE       ─────────►  granted to one     (large messages are copied once at a time)
      METRICS deltas           ─────────►  absorbed          (one consistent total)
      GUARD address, failed    ◄────────►  told to the others (five failed AUTHs are five, whichever worker heard them)
             ◄─────────  CHANGED kind                        (a key was revoked: drop what you remember)
             ◄─────────  STOP                                (finish transactions, then exit)

A frame is its payload's length, its kind, a number that pairs question and answer, and the payload in MessagePack. Both ends are one installation on
one host, the socket is 0600 and the peer's uid is checked.

What is in flight is bounded on both sides: WELCOME grants a worker its credit in octets, beyond it the client hears 452. When the main process is gone a
worker closes its listeners, looks for a new one for PATIENCE seconds and asks HAVE for each message it still owes an answer: 250 if the store has
it, else 451, so that no client is told 451 for mail that will go out, nor 250 for mail that will not.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import msgpack

from relay import log
from relay.errors import Defer, Refuse, RelayError
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.store import faults

HEAD = struct.Struct("<IBQ")  # payload octets, kind, number
LARGEST = 512 << 20  # octets of a payload; a message is far below, so more is a broken stream
CREDIT = 64 << 20  # octets that one worker may have waiting for their commit
PATIENCE = 30.0  # seconds that a worker looks for a new main process before it says 451
PAUSE = 0.1  # seconds between two looks

SUBMIT, COMMITTED, REFUSED, HAVE, UNKNOWN, COUNT, COUNTED, METRICS, CHANGED, STOP, WELCOME, GUARD, LARGE, DONE = range(14)

LOG = log.get("handover")

_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder().decode
_messages = msgpack.Decoder(list[Message]).decode


def pack(messages: Sequence[Message]) -> bytes:
    """The messages as octets; what `unpack` gives back is equal."""
    return _encode(messages)


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
            self.transport.write(HEAD.pack(len(payload), kind, number))
            self.transport.write(payload)  # writelines would join the two: one more copy of a large message

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


def _error(payload: bytes | memoryview) -> RelayError:
    code, enhanced, text, retry_after = _decode(payload)
    reply = Reply(code, enhanced, text)
    return Refuse(reply) if reply.permanent else Defer(reply, retry_after)


def _refusal(error: BaseException) -> bytes:
    reply = error.reply if isinstance(error, RelayError) else Reply(451, "4.3.0", "the message could not be stored, try again later")
    return _encode((reply.code, reply.enhanced, reply.text, getattr(error, "retry_after", 30.0)))


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
        return await self._ask(COUNT, _encode(question))

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
        self.send(GUARD, 0, _encode((client, failed)))

    def metrics(self, deltas: Any) -> None:
        self.send(METRICS, 0, _encode(deltas))

    def _expect(self, number: int) -> asyncio.Future[Any]:
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        return answer

    def frame(self, kind: int, number: int, payload: bytes | memoryview) -> None:
        if kind == COMMITTED:
            faults.point("handover.heard")
            self._answer(number, _decode(payload))
        elif kind == REFUSED:
            self._answer(number, _error(payload))
        elif kind == UNKNOWN:
            self._answer(number, Defer(Reply(451, "4.3.0", "the relay restarted before it had the message, try again")))
        elif kind == COUNTED:
            self._answer(number, _decode(payload))
        elif kind == CHANGED:
            self._changed(bytes(payload).decode())
        elif kind == WELCOME:
            self._credit = number
            if self._welcome and not self._welcome.done():
                self._welcome.set_result(None)
        elif kind == GUARD and self.heard is not None:
            self.heard(*_decode(payload))
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


class Hub:
    """The main process's end: a Unix socket where workers connect.

    commit  makes messages durable, gives the id; may raise a RelayError at once
    have    whether the store has the message of this id
    count   (name, limit, period, amount) -> seconds to wait, 0.0 when counted
    absorb  takes a worker's metric deltas; `forget` takes its gauges out of the totals when it has gone
    """

    def __init__(self, commit: Callable[[Sequence[Message]], asyncio.Future[int]], have: Callable[[int], Awaitable[bool]],
                 count: Callable[..., Awaitable[float]], absorb: Callable[[Any, str], None], forget: Callable[[str], None] = lambda worker: None,
                 credit: int = CREDIT):
        self.commit, self.have, self.count, self.absorb, self.forget, self.credit = commit, have, count, absorb, forget, credit
        self.workers: set[_Worker] = set()
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.large = asyncio.Semaphore(1)
        self._ending = False
        self._unwanted: set[int] = set()  # process ids of workers told to stop before they had connected

    async def start(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Worker(self), str(path))
        finally:
            os.umask(mask)

    def changed(self, kind: str) -> None:
        """Tell every worker to drop what it remembers of this kind."""
        for worker in self.workers:
            worker.send(CHANGED, 0, kind.encode())

    def tell_others(self, teller: _Worker, payload: bytes) -> None:
        """Pass on what a worker's guard has seen."""
        for worker in self.workers:
            if worker is not teller:
                worker.send(GUARD, 0, payload)

    def stop_worker(self, pid: int | None = None) -> None:
        """Tell the worker with this process id, or every one, to finish its transactions and exit; one that is just starting hears it when it connects."""
        found = [worker for worker in self.workers if pid is None or worker.pid == pid]
        if pid is None:
            self._ending = True
        elif not found:
            self._unwanted.add(pid)
        for worker in found:
            worker.send(STOP, 0)

    def unwanted(self, pid: int) -> bool:
        """Whether a worker that has just connected was told to stop before it could hear it."""
        early = pid in self._unwanted
        self._unwanted.discard(pid)
        return early or self._ending

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for worker in list(self.workers):
            if worker.transport is not None:
                worker.transport.close()

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Worker(Stream):
    """One worker as the main process sees it."""

    def __init__(self, hub: Hub):
        super().__init__()
        self._hub = hub
        self.pid = 0
        self._large = 0  # large messages that it may bring now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock: socket.socket = transport.get_extra_info("socket")
        self.pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.geteuid():
            LOG.warning("stranger refused", uid=uid)
            transport.close()
            return
        self._hub.workers.add(self)
        self.send(WELCOME, self._hub.credit)
        if self._hub.unwanted(self.pid):
            self.send(STOP, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hub.workers.discard(self)
        self._hub.forget(str(self.pid))
        while self._large:
            self._done()

    def frame(self, kind: int, number: int, payload: bytes | memoryview) -> None:
        if kind == SUBMIT:
            self._commit(number, payload)
        elif kind == HAVE:
            self._hub.spawn(self._have(number))
        elif kind == COUNT:
            self._hub.spawn(self._count(number, _decode(payload)))
        elif kind == LARGE:
            self._hub.spawn(self._grant(number))
        elif kind == DONE:
            self._done()
        elif kind == GUARD:
            self._hub.tell_others(self, bytes(payload))
        elif kind == METRICS:
            self._hub.absorb(_decode(payload), str(self.pid))

    def _commit(self, number: int, payload: bytes | memoryview) -> None:
        """Begin the commit; its answer goes out when it is done. No task: this runs for every message."""
        faults.point("handover.taken")
        try:
            committing = self._hub.commit(unpack(payload))
        except RelayError as error:
            self.send(REFUSED, number, _refusal(error))
            return
        committing.add_done_callback(partial(self._committed, number))

    def _committed(self, number: int, committing: asyncio.Future[int]) -> None:
        error = committing.exception()
        if error is None:
            faults.point("handover.committed")
            self.send(COMMITTED, number, _encode(committing.result()))
            return
        if not isinstance(error, RelayError):
            LOG.error("commit failed", number=number, error=repr(error))
        self.send(REFUSED, number, _refusal(error))

    async def _grant(self, number: int) -> None:
        """Let this worker bring a large message, when it is its turn."""
        await self._hub.large.acquire()
        self._large += 1
        if self.transport is None:
            self._done()
        self.send(COUNTED, number, _encode(0.0))

    def _done(self) -> None:
        if self._large:
            self._large -= 1
            self._hub.large.release()

    async def _have(self, number: int) -> None:
        try:
            found = await self._hub.have(number)
        except RelayError:
            found = False
        self.send(COMMITTED if found else UNKNOWN, number, _encode(number))

    async def _count(self, number: int, question: Sequence[Any]) -> None:
        try:
            self.send(COUNTED, number, _encode(await self._hub.count(*question)))
        except RelayError as error:
            self.send(REFUSED, number, _refusal(error))
