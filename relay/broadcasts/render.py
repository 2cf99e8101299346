"""Copies made from a letter: few in a thread, many in a process of their own, which is the machine's second core and keeps a slow template off the mail.

The process is started by the first slice worth it and ends when nothing has been asked for IDLE seconds, or with its parent: its standard input ends then, so
a kill -9 leaves no orphan. It answers in the order in which it is asked. One that dies is replaced, and its slices are rendered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from relay import copies, heap, log, priority
from relay.copies import Letter
from relay.errors import Defer, Invalid
from relay.mail.header import Field, Header
from relay.mail.reply import Reply

FEW = 50  # copies that a thread makes quicker than a process is asked
IDLE = 60.0  # seconds without work after which the process ends
PATIENCE = 60.0  # seconds for one slice; templates are bounded in loops and output, so only a stuck process takes longer
NICE = 5  # copies give way to mail
PIPE = 1 << 20  # octets of answers that are read ahead

SLOW = Defer(Reply(451, "4.3.0", "rendering took too long"))

LOG = log.get("broadcasts")

Person = tuple[str, Mapping[str, Any]]  # address, variables
Made = tuple[bytes, ...] | str  # names and octets of the header's fields in turns, then the body; or what is wrong with this copy


def make(letter: Letter, people: Sequence[Person]) -> list[Made]:
    """A copy for each, or why there is none: plain octets, which are cheap to take from one process to the other. What copies share is in them once."""
    made: list[Made] = []
    shared: dict[bytes, bytes] = {}
    for address, variables in people:
        try:
            fields, body = copies.composed(letter, address, variables)
        except Invalid as error:
            made.append(error.text)
        else:
            made.append((*(part for each in fields.fields for part in (shared.setdefault(each.name, each.name), each.raw)), body))
    return made


def content(made: tuple[bytes, ...]) -> tuple[Header, bytes]:
    """Header and body of a copy."""
    return Header(tuple(map(Field, made[:-1:2], made[1:-1:2]))), made[-1]


class Renderer:
    """Renders slices; one event loop owns it."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._starting: asyncio.Task[Child] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def make(self, letter: Letter, people: Sequence[Person]) -> list[Made]:
        """As `make`; raises Defer when the process cannot do it now."""
        if len(people) < FEW:
            return await asyncio.to_thread(make, letter, people)
        child = None
        try:
            async with asyncio.timeout(PATIENCE):
                child = await self._ready()
                return await child.make(letter, people)
        except TimeoutError:
            self._replace(child, "is stuck")
            raise SLOW from None
        except OSError:
            self._replace(child, "died")
            raise Defer(SLOW.reply, 1.0) from None

    def _replace(self, child: Child | None, why: str) -> None:
        """Give up a process, unless that was done already: the next slice starts another."""
        if child is self._child:
            LOG.warning(f"the rendering process {why}, another one takes over")
            self.close()

    async def _ready(self) -> Child:
        """The process, started when there is none; several may wait for it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE, self.close)
        if self._child is None:
            if self._starting is None:
                self._starting = asyncio.create_task(start())
            starting = self._starting
            child = await asyncio.shield(starting)
            if self._starting is starting:
                self._child, self._starting = child, None
        if self._child is None:  # it was closed meanwhile
            raise BrokenPipeError
        return self._child

    @property
    def processes(self) -> list[int]:
        return [] if self._child is None else [self._child.pid]

    def close(self) -> None:
        """End the process; what it was doing is lost."""
        if self._timer is not None:
            self._timer.cancel()
        child, starting, self._child, self._starting, self._timer = self._child, self._starting, None, None, None
        if child is not None:
            child.end()
        if starting is not None:
            starting.add_done_callback(_ended)


def _ended(starting: asyncio.Task[Child]) -> None:
    """A process that was given up before it was there."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().end()


class Child:
    """The process as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process):
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid, self._process, self._in, self._out = process.pid, process, process.stdin, process.stdout
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._reading = asyncio.create_task(self._read())

    async def make(self, letter: Letter, people: Sequence[Person]) -> list[Made]:
        """Raises OSError when the process ends before it has answered."""
        if self._reading.done():
            raise BrokenPipeError
        answer = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        question = pickle.dumps((letter, people), pickle.HIGHEST_PROTOCOL)
        self._in.write(len(question).to_bytes(4, "big") + question)
        await self._in.drain()
        return pickle.loads(await answer)  # noqa: S301  from a process of our own

    async def _read(self) -> None:
        """Give each answer to who asked, until there are no more."""
        try:
            while True:
                size = int.from_bytes(await self._out.readexactly(4), "big")
                answer, octets = self._asked.popleft(), await self._out.readexactly(size)
                if not answer.done():
                    answer.set_result(octets)
        except (EOFError, OSError):
            pass
        finally:
            for answer in self._asked:
                if not answer.done():
                    answer.set_exception(BrokenPipeError())
        await self._process.wait()

    def end(self) -> None:
        """At once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


async def start() -> Child:
    """A new process."""
    return Child(await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.broadcasts.render", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}))


# The process.


def main() -> None:
    """Answer until standard input ends, which it does with the parent."""
    priority.give_way(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it ends, not the terminal
    heap.settle()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while size := source.read(4):
        question = pickle.loads(source.read(int.from_bytes(size, "big")))  # noqa: S301  from our parent
        answer = pickle.dumps(make(*question), pickle.HIGHEST_PROTOCOL)
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


if __name__ == "__main__":
    main()
