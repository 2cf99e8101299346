"""Outcomes on their way to the disk: nothing leaves that cannot be recorded.

Settlements gather here and are committed together, one commit at a time: while one is under way the next ones gather, so that a busy relay writes many in
one and a quiet one writes each at once. At most UNWRITTEN are not on disk at any time, and while the store fails nothing new may start; who wants to send
asks `ready` first and waits on `room()`. What cannot be written is kept and tried again, for ever: it has happened.

A kill in between leaves recipients whose mail was taken and who are still in the queue: they are sent again, at most UNWRITTEN of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from relay import log
from relay.errors import StoreError
from relay.metrics import gauge
from relay.store import faults
from relay.store.engine import Store
from relay.store.queue import Settlement
from relay.store.writes import OUTCOMES

UNWRITTEN = 200  # outcomes that are not on disk; what a crash can repeat
GATHER = 0.02  # seconds that outcomes gather before they are written, well under the 100 ms after which they must be on disk
ENOUGH = 50  # outcomes that are written without gathering more
AGAIN = 1.0  # seconds between attempts to write while the store fails

LOG = log.get("queue")
WAITING = gauge("queue_outcomes_unwritten", "Delivery outcomes that are not committed yet")


class Recorder:
    """Writes settlements; `committed(settlements)` is called for each group that is on disk.

    record(conn, settlements)  what writes a group, relay.queue.evidence: gives other recipients that it stopped, of which `stopped` is told;
                               may be replaced
    """

    def __init__(
        self, store: Store, committed: Callable[[Sequence[Settlement]], None], record: Callable[[Any, Sequence[Settlement]], Iterable[int]],
        stopped: Callable[[Iterable[int]], None],
    ):
        self._store, self._committed, self.record, self._stopped = store, committed, record, stopped
        self._pending: list[Settlement] = []
        self._writing = 0
        self._failing = False
        self._some = asyncio.Event()
        self._room: list[asyncio.Future[None]] = []
        self._enough = asyncio.Event()
        self._hurry = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether an attempt may start."""
        return not self._failing and len(self._pending) + self._writing < UNWRITTEN and self._store.departures_open()

    @property
    def unwritten(self) -> int:
        return len(self._pending) + self._writing

    def add(self, settlement: Settlement) -> None:
        """Record this as soon as the commit before it is done."""
        self._pending.append(settlement)
        if len(self._pending) == 1:
            self._idle.clear()
            self._some.set()
        elif len(self._pending) == ENOUGH:
            self._enough.set()

    async def room(self) -> None:
        """Wait until an attempt may start."""
        while not self.ready:
            if not self._store.departures_open() and not self.unwritten:
                await asyncio.sleep(AGAIN)  # the disk is nearly full; nobody tells us when it is not
                continue
            turn = asyncio.get_running_loop().create_future()
            self._room.append(turn)
            await turn

    async def flushed(self, patience: float) -> bool:
        """Whether everything is on disk within so many seconds."""
        self._hurry = True
        self._enough.set()
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            LOG.error("outcomes are not recorded; their mail will be sent again", outcomes=self.unwritten)
            return False
        return True

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._pending:
                await self._gather()
                batch, self._pending = self._pending, []
                self._writing = len(batch)
                WAITING.set(self._writing)
                faults.point("settle.gathered")
                written = await self._write(batch)
                faults.point("settle.written")
                self._committed(written)
                self._writing = 0
                self._let_in()
            WAITING.set(0)
            self._idle.set()

    async def _gather(self) -> None:
        """Let outcomes gather for a moment: ten in a commit cost a fifth of ten commits."""
        if len(self._pending) >= ENOUGH or self._hurry:
            return
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(GATHER, self._enough.set)
        await self._enough.wait()
        timer.cancel()

    async def _write(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Those that are on disk: all, but for one that no database takes, whose recipient stays where it is until somebody looks."""
        while True:
            try:
                stopped = await self._store.write(self.record, batch, lane=OUTCOMES, rows=len(batch))
            except StoreError as error:
                self._failing = True
                LOG.error("outcomes cannot be recorded, deliveries stopped", outcomes=len(batch), error=error.text)
                await asyncio.sleep(AGAIN)
                continue
            except Exception as error:
                self._failing = False
                return await self._alone(batch, error)
            self._failing = False
            if stopped:
                self._stopped(stopped)
            return batch

    async def _alone(self, batch: Sequence[Settlement], error: Exception) -> Sequence[Settlement]:
        """Each by itself, so that a bad one does not hold the others."""
        if len(batch) > 1:
            return [written for each in batch for written in await self._write([each])]
        LOG.error("outcome cannot be recorded", recipient=batch[0].recipient_id, state=batch[0].state, error=repr(error))
        return ()

    def _let_in(self) -> None:
        waiting, self._room = self._room, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


__all__ = ["UNWRITTEN", "Recorder"]
