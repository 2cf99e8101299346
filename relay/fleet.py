"""The submission workers of `relay serve --workers N`: started, watched, replaced and stopped by the main process.

Each worker is forked by the nursery (relay.nursery) and given its listening sockets, which the main process keeps open; one that dies is started again with
a growing pause, and what it had handed over is delivered all the same. Where the nursery itself dies there is a new one, and new workers for those that it
leaves behind, which finish their transactions.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from relay import log
from relay.nursery import LOST, Child, Nursery

PAUSES = (0.1, 0.5, 1.0, 5.0, 10.0)  # seconds before a dead worker is started again, by how many died in a row
REAP = 1.0  # seconds between two looks at a worker without a nursery
STEADY = 60.0  # seconds after which a worker counts as healthy again

LOG = log.get("fleet")


class Fleet:
    """The workers, a process each.

    places   the listening sockets of each worker by listener name
    base     the number of the main process among the makers of ids
    stop     tells the worker with this process id to finish its transactions and end
    nursery  where they come from; a new one is started where there is none
    """

    def __init__(self, config: str | None, places: Sequence[Mapping[str, socket.socket]], base: int, stop: Callable[[int], None], nursery: Nursery | None):
        self._config, self._places, self._base, self._stop, self._nursery = config, places, base, stop, nursery
        self._children: dict[int, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._orphans: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children.values()]

    def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(number, place)) for number, place in enumerate(self._places)]

    async def replace(self, timeout: float) -> None:
        """Workers with the new configuration, one by one: each finishes its transactions first (SIGHUP), and is killed after `timeout` seconds."""
        for child in list(self._children.values()):
            self._stop(child.pid)
            if not (await asyncio.wait([child.ended], timeout=timeout))[0]:
                child.kill()

    async def stop(self, timeout: float) -> None:
        """Refuse new clients, wait until the workers, told to stop over their links, have ended; kill what is left after `timeout` seconds."""
        self._stopping = True
        for sock in {id(sock): sock for place in self._places for sock in place.values()}.values():
            sock.close()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=timeout)
            for child in self._children.values() if late else ():
                LOG.warning("worker killed", pid=child.pid)
                child.kill()
            await asyncio.gather(*self._keepers)
        if self._nursery is not None:
            await self._nursery.close()
        for orphan in self._orphans:
            orphan.cancel()

    async def _keep(self, number: int, place: Mapping[str, socket.socket]) -> None:
        died = 0
        while not self._stopping:
            child = await self._spawn(number, place)
            if child is None:
                return
            started = asyncio.get_running_loop().time()
            code = await child.ended
            if code == LOST:
                LOG.error("workers' nursery ended, a worker is replaced", number=number, pid=child.pid)
                self._stop(child.pid)
                self._orphans.append(asyncio.create_task(_reaped(child.pid)))
            if self._stopping:
                return
            if code in (0, LOST):  # it was told to go, or outlived a main process
                continue
            died = 0 if asyncio.get_running_loop().time() - started > STEADY else died + 1
            LOG.error("worker ended", number=number, pid=child.pid, code=code, died=died)
            await asyncio.sleep(PAUSES[min(died, len(PAUSES)) - 1])

    async def _spawn(self, number: int, place: Mapping[str, socket.socket]) -> Child | None:
        """The worker of this number, None when it is not wanted any more."""
        words = {"config": self._config, "number": self._base + number + 1, "processes": len(self._places), "listeners": list(place)}
        while not self._stopping:
            if self._nursery is None or not self._nursery.alive:
                self._nursery = Nursery.anew()
            try:
                self._children[number] = await self._nursery.start(words, list(place.values()))
            except OSError as error:
                if not self._stopping:
                    LOG.error("no worker started", number=number, error=str(error))
                    await asyncio.sleep(PAUSES[0])
            else:
                return self._children[number]
        return None


async def _reaped(pid: int) -> None:
    """Await a worker whose nursery is gone: where we are process 1, as in a container, it is our child now, and would stay in the table of processes."""
    while not _ended(pid):
        await asyncio.sleep(REAP)


def _ended(pid: int) -> bool:
    """Whether the process has ended, or is not ours to await."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
