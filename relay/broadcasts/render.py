"""Copies made from a letter: few in a thread, many in a process of their own, which is the machine's second core and keeps a slow template off the mail.

The process is started by the first slice worth it and ends when nothing has been asked for IDLE seconds, or with its parent: it waits on the parent's end, so
a kill -9 leaves no orphan. One that dies is replaced, and its slice is rendered again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import Any

from relay import copies, log
from relay.copies import Letter
from relay.errors import Defer, Invalid
from relay.mail.reply import Reply

FEW = 50  # copies that a thread makes quicker than a process is asked
IDLE = 60.0  # seconds without work after which the process ends
PATIENCE = 60.0  # seconds for one slice; templates are bounded in loops and output, so only a stuck process takes longer

SLOW = Defer(Reply(451, "4.3.0", "rendering took too long"))

LOG = log.get("broadcasts")

Person = tuple[str, Mapping[str, Any]]  # address, variables
Made = bytes | str  # the octets, or what is wrong with this copy


def make(letter: Letter, people: Sequence[Person]) -> list[Made]:
    """A copy for each, or why there is none."""
    made: list[Made] = []
    for address, variables in people:
        try:
            made.append(copies.build(letter, address, variables))
        except Invalid as error:
            made.append(error.text)
    return made


class Renderer:
    """Renders slices; one event loop owns it."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def make(self, letter: Letter, people: Sequence[Person]) -> list[Made]:
        """As `make`; raises Defer when the process cannot do it now."""
        if len(people) < FEW:
            return await asyncio.to_thread(make, letter, people)
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.get_running_loop().run_in_executor(self._process(), make, letter, people)
        except BrokenProcessPool:
            LOG.warning("the rendering process died, another one takes over")
            self.close()
            raise Defer(SLOW.reply, 1.0) from None
        except TimeoutError:
            self.close()
            raise SLOW from None

    def _process(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE, self.close)
        return self._pool

    @property
    def processes(self) -> list[int]:
        return [] if self._pool is None else list(self._pool._processes or {})

    def close(self) -> None:
        """End the process; what it was doing is lost."""
        if self._timer is not None:
            self._timer.cancel()
        pool, self._pool, self._timer = self._pool, None, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """In the new process: the parent says when it ends, not the terminal; and it ends with the parent."""
    os.nice(5)  # copies give way to mail
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(0)
