"""The process that submission workers are forked from: it has imported what they need, and has no thread, no event loop and no listening socket.

`relay serve --workers N` splits it off before it starts anything of its own. So a worker, the first as well as one that takes a dead one's place, begins in
milliseconds and shares its parent's memory, instead of reading a thousand modules anew. Over a pair of sockets go the words for a worker, as JSON, with its
listening sockets beside them (SCM_RIGHTS, unix(7)); back come its process id and, when it has ended, its exit code.

The nursery ends when the main process does, however that ends; its workers find out by themselves (relay.handover). Where it is killed, a Python of its own
takes its place (`python -m relay.worker FD`); nobody awaits the workers of the dead one, so whoever has them hears that they are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

MOST = 65_536  # octets of a request: a path and some names
FILES = 16  # listening sockets that a worker may be given
TOLD = struct.Struct("ii")  # process id, and STARTED or the exit code
STARTED, LOST = -1_000, -1_001  # beside exit codes, which are negative for signals

Work = Callable[[dict[str, Any], Sequence[int]], int]  # what a worker does with its words and files, to its exit code


class Child:
    """A worker; `ended` is its exit code, negative for a signal, or LOST when its nursery is gone."""

    def __init__(self, pid: int):
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """The main process's end: `pid` is that of the nursery, `alive` whether it takes requests."""

    def __init__(self, line: socket.socket, pid: int):
        line.setblocking(False)
        self.pid, self.alive = pid, True
        self._line = line
        self._children: dict[int, Child] = {}
        self._turn = asyncio.Lock()
        self._next: asyncio.Future[Child] | None = None
        self._hears: asyncio.Task[None] | None = None

    @classmethod
    def split(cls, work: Work) -> Nursery:
        """Fork it from this process, which must not have begun a thread or an event loop."""
        ours, theirs = socket.socketpair()
        gc.freeze()  # no collection writes to what both processes share
        pid = os.fork()
        if not pid:
            _apart(theirs, work)
        theirs.close()
        return cls(ours, pid)

    @classmethod
    def anew(cls) -> Nursery:
        """Start one that imports by itself, from a process that has threads by now."""
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            command = [sys.executable, "-m", "relay.worker", str(theirs.fileno())]
            return cls(ours, os.posix_spawn(sys.executable, command, os.environ))

    async def start(self, words: Mapping[str, Any], sockets: Sequence[socket.socket]) -> Child:
        """A worker with these words and sockets; raises OSError when the nursery is gone, or a socket was closed before its turn."""
        async with self._turn:
            if self._hears is None:
                self._hears = asyncio.create_task(self._hear())
            self._next = asyncio.get_running_loop().create_future()
            socket.send_fds(self._line, [orjson.dumps(words)], [each.fileno() for each in sockets])
            return await self._next

    async def _hear(self) -> None:
        """What it tells of its workers, until it is gone."""
        loop = asyncio.get_running_loop()
        told = b""
        with contextlib.suppress(ConnectionResetError):
            while octets := await loop.sock_recv(self._line, MOST):
                told += octets
                while len(told) >= TOLD.size:
                    self._heard(*TOLD.unpack_from(told))
                    told = told[TOLD.size:]
        self.alive = False
        await asyncio.to_thread(os.waitpid, self.pid, 0)  # first: only then have its workers another parent
        for pid in list(self._children):
            self._heard(pid, LOST)
        if self._next is not None and not self._next.done():
            self._next.set_exception(ConnectionResetError("the nursery of the workers is gone"))

    def _heard(self, pid: int, code: int) -> None:
        if code == STARTED:
            self._children[pid] = Child(pid)
            if self._next is not None and not self._next.done():
                self._next.set_result(self._children[pid])
            return
        ended = self._children.pop(pid).ended
        if not ended.done():
            ended.set_result(code)

    async def close(self) -> None:
        """Let it end, and wait until it has; what is left of its workers goes on without it."""
        with contextlib.suppress(OSError):  # it is gone already
            self._line.shutdown(socket.SHUT_RDWR)
        if self._hears is None:
            self._hears = asyncio.create_task(self._hear())
        await self._hears
        self._line.close()


# in the nursery


def attend(line: socket.socket, work: Work) -> int:
    """Fork a worker for each request until the main process is gone; gives the exit code, that of `work` in a worker."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # those of a terminal reach every process: only the main one decides
        signal.signal(signum, signal.SIG_IGN)
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _name("relay-nursery")
    while True:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            woken.recv(MOST)
            _report(line)
        if line not in ready:
            continue
        told, files = _request(line)
        if not told:
            return 0
        pid = os.fork()
        if not pid:
            break
        for fd in files:
            os.close(fd)
        _tell(line, pid, STARTED)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for ours in (woken, wakes, line):
        ours.close()
    words = orjson.loads(told)
    _name(f"relay-worker-{words['number']}")
    return work(words, files)


def _request(line: socket.socket) -> tuple[bytes, list[int]]:
    """Words and files; nothing when the main process is gone."""
    try:
        told, files, _, _ = socket.recv_fds(line, MOST, FILES)
    except ConnectionResetError:
        return b"", []
    return told, files


def _report(line: socket.socket) -> None:
    """Tell of every worker that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _tell(line, found[0], os.waitstatus_to_exitcode(found[1]))


def _tell(line: socket.socket, pid: int, code: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the main process is gone, as the next read says
        line.sendall(TOLD.pack(pid, code))


def _name(name: str) -> None:
    """What ps and top call this process (proc(5)), where the kernel lets it say so."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _apart(line: socket.socket, work: Work) -> NoReturn:
    """In the forked process: close what the main one has open, such as sockets from systemd, and attend; nothing of that one's stack goes on."""
    code = 1
    try:
        for name in os.listdir("/dev/fd"):
            if int(name) > 2 and int(name) != line.fileno():
                with contextlib.suppress(OSError):
                    os.close(int(name))
        code = attend(line, work)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
