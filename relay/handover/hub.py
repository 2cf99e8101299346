"""The main process's end: the Unix socket where workers connect, and one of them as it sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from relay.errors import RelayError
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
    REFUSED,
    STOP,
    SUBMIT,
    UNKNOWN,
    WELCOME,
    Stream,
    decode,
    encode,
    refusal,
    unpack,
)
from relay.mail.message import Message
from relay.store import faults


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
            self._hub.spawn(self._count(number, decode(payload)))
        elif kind == LARGE:
            self._hub.spawn(self._grant(number))
        elif kind == DONE:
            self._done()
        elif kind == GUARD:
            self._hub.tell_others(self, bytes(payload))
        elif kind == METRICS:
            self._hub.absorb(decode(payload), str(self.pid))

    def _commit(self, number: int, payload: bytes | memoryview) -> None:
        """Begin the commit; its answer goes out when it is done. No task: this runs for every message."""
        faults.point("handover.taken")
        try:
            committing = self._hub.commit(unpack(payload))
        except RelayError as error:
            self.send(REFUSED, number, refusal(error))
            return
        committing.add_done_callback(partial(self._committed, number))

    def _committed(self, number: int, committing: asyncio.Future[int]) -> None:
        error = committing.exception()
        if error is None:
            faults.point("handover.committed")
            self.send(COMMITTED, number, encode(committing.result()))
            return
        if not isinstance(error, RelayError):
            LOG.error("commit failed", number=number, error=repr(error))
        self.send(REFUSED, number, refusal(error))

    async def _grant(self, number: int) -> None:
        """Let this worker bring a large message, when it is its turn."""
        await self._hub.large.acquire()
        self._large += 1
        if self.transport is None:
            self._done()
        self.send(COUNTED, number, encode(0.0))

    def _done(self) -> None:
        if self._large:
            self._large -= 1
            self._hub.large.release()

    async def _have(self, number: int) -> None:
        try:
            found = await self._hub.have(number)
        except RelayError:
            found = False
        self.send(COMMITTED if found else UNKNOWN, number, encode(number))

    async def _count(self, number: int, question: Sequence[Any]) -> None:
        try:
            self.send(COUNTED, number, encode(await self._hub.count(*question)))
        except RelayError as error:
            self.send(REFUSED, number, refusal(error))
